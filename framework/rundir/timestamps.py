"""Times as the records of a run write them: local, with the zone's offset, to the millisecond."""

import time
from datetime import datetime


def now() -> str:
    """Return the time."""
    return text_of(time.time())


def text_of(seconds: float) -> str:
    """Return the time at `seconds`, in Unix time."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")


def seconds_of(text: str) -> float:
    """Return Unix seconds for what `text_of` returned; raises `ValueError`."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, OverflowError, OSError) as error:
        raise ValueError(f"{text!r} is not a time") from error
