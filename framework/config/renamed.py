"""Values with other names in earlier versions, which are still accepted with a note."""

import functools
import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)


def current_word(value: Any, key: str, renamed: Mapping[str, str]) -> Any:
    """Return the current name of a value; values that were not renamed are returned unchanged."""
    if not isinstance(value, str) or value not in renamed:
        return value
    _note(key, value, renamed[value])
    return renamed[value]


@functools.cache  # a configuration is read several times
def _note(key: str, old: str, new: str) -> None:
    log.warning("⚠ %s=%s is now called %s; write %s=%s", key, old, new, key, new)
