"""Parsing of command-line overrides, `KEY=VALUE`; no other module takes their text apart.

Hydra has its own parser for composing the configuration. This one only finds the key and the value of an override,
and accepts any text, because a damaged run record may contain anything.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_PARTS = re.compile(r"(\+\+|\+|~)?([^=@]*)(?:@([^=]*))?(?:=(.*))?", re.DOTALL)
_TYPED_KEY = re.compile(r"[\w$]\S*")
_OPTIONS = re.compile(r"\[?[\w-]+(,[\w-]+)*\]?")  # names of a group's options, rather than paths
_PLAIN = ("name", "seed", "device")  # top-level keys that are not groups
_MAX_LENGTH = 131_072  # bytes of one argument of a command line on Linux


@dataclass(frozen=True)
class Override:
    """An override `PREFIX GROUP@PACKAGE=VALUE` as its parts; `value` is None if there is no `=`."""

    text: str
    prefix: str
    key: str
    package: str | None
    value: str | None

    @classmethod
    def parse(cls, text: str) -> "Override":
        """Split any text; text that is not an override yields a nonsensical key, or no value."""
        match = _PARTS.fullmatch(text)
        assert match, "the pattern matches any text"
        prefix, key, package, value = match.groups()
        return cls(text, prefix or "", key, package, value)

    @property
    def name(self) -> str:
        """The key or group with its package, as Hydra's messages call it."""
        return self.key if self.package is None else f"{self.key}@{self.package}"

    @property
    def path(self) -> str:
        """The key or group with dots between its parts, such as `optimizer.scheduler`."""
        return self.key.replace("/", ".")

    @property
    def place(self) -> str:
        """The key that is set: the package if one is given, empty for the whole configuration."""
        package = self.path if self.package is None else self.package
        return "" if package == "_global_" else package

    @property
    def top(self) -> str:
        """The first part of the key that is set."""
        return self.place.partition(".")[0]

    @property
    def is_typed(self) -> bool:
        """Whether it reads like an override rather than like a command-line option or a path."""
        if self.prefix == "~":
            return True
        return self.value is not None and _TYPED_KEY.fullmatch(self.name) is not None

    @property
    def is_value(self) -> bool:
        """Whether it sets a key of the run; if a group has that name, it chooses the group's file instead."""
        is_key = self.prefix != "~" and self.package is None and "/" not in self.key and bool(self.key)
        return is_key and self.value is not None and self.top != "hydra"

    @property
    def is_choice(self) -> bool:
        """Whether it sets a group or a key to a single plain word, such as `network=maf`."""
        named = not self.prefix and self.package is None and "." not in self.key
        return named and re.fullmatch(r"\w+", self.value or "") is not None

    def sets(self, path: Sequence[str | int]) -> bool:
        """Return whether it sets the key at `path`, a group that contains it, or a key below it."""
        key, place = ".".join(map(str, path)), self.place
        return bool(place) and (key == place or key.startswith(f"{place}.") or place.startswith(f"{key}."))


def is_override(argument: str) -> bool:
    """Return whether a command-line argument reads like an override."""
    return Override.parse(argument).is_typed


def may_be_typed(override: Override) -> bool:
    """Return whether an override from an untrusted run record may be suggested for the user to type.

    It must not choose code: not by a `_target_`, by an option that is a file path, or by one of Hydra's own keys.
    """
    text = override.text
    if not override.is_typed or not text.isprintable() or "_target_" in text or "${" in text:
        return False
    if override.top == "hydra" or override.package is not None:
        return False
    is_group = "/" in override.key or ("." not in override.key and override.key not in _PLAIN)
    return not is_group or override.value is None or _OPTIONS.fullmatch(override.value) is not None


def last_of(overrides: Iterable[str], key: str) -> str | None:
    """Return the last override that assigns a value to `key`."""
    parsed = [Override.parse(text) for text in overrides]
    return next((o.text for o in reversed(parsed) if o.key == key and o.prefix != "~" and o.value is not None), None)


def last_to_set(overrides: Iterable[str], path: Sequence[str | int]) -> str | None:
    """Return the last override that sets the key at `path`, a group that contains it, or a key below it."""
    return next((text for text in reversed(list(overrides)) if Override.parse(text).sets(path)), None)


def recorded(value: object) -> list[str]:
    """Return the overrides listed in a run record, without entries that cannot come from a command line."""
    texts = value if isinstance(value, list | tuple) else []
    return [t for t in texts if isinstance(t, str) and t and "\0" not in t and len(t) < _MAX_LENGTH]


def quoted(text: str) -> str:
    """Quote any text as an override's value, so that Hydra reads exactly that text."""
    escaped = re.sub(r"(\\*)('|\Z)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), text)
    return f"'{escaped}'"
