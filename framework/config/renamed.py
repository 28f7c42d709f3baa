"""Words of earlier versions that a key still takes, with a note that says what to write now."""

import functools
import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)


def current_word(value: Any, key: str, renamed: Mapping[str, str]) -> Any:
    """Return the word that the value is called by now; what was not renamed stays as it is."""
    if not isinstance(value, str) or value not in renamed:
        return value
    _note(key, value, renamed[value])
    return renamed[value]


@functools.cache  # a configuration is read several times
def _note(key: str, old: str, new: str) -> None:
    log.warning("⚠ %s=%s is called %s now; write %s=%s", key, old, new, key, new)
