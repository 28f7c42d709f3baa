"""Times in a run's records: local time with UTC offset, to the millisecond."""

import time
from datetime import datetime


def now() -> str:
    """Return the current time."""
    return text_of(time.time())


def text_of(seconds: float) -> str:
    """Return the text for a time in Unix seconds."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")


def seconds_of(text: str) -> float:
    """Return Unix seconds for a text returned by `text_of`; raises `ValueError`."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, OverflowError, OSError) as error:
        raise ValueError(f"{text!r} is not a time") from error
