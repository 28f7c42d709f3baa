"""Parsing of durations, in the formats that people and schedulers use, into seconds."""

import re

_EXAMPLES = "90s, 5m, 23h30m, 1-12:00:00, 36:00:00, PT2H, or a bare number of seconds"
_UNIT_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_LONGEST_SECONDS = 1e9  # thirty years; much longer durations overflow the system's timers
_UNITS = re.compile(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+)(?::([0-5]?\d))?(?::([0-5]?\d(?:\.\d+)?))?")


def parse_duration(value: str | int | float) -> float:
    """Return `value` in seconds.

    Reads units (`23h30m`, `1.5h`, `2d`), clocks (`D-HH`, `D-HH:MM[:SS]`, `HH:MM:SS`, `MM:SS`),
    ISO 8601 (`PT2H30M`, `P1DT12H`) and bare numbers, which are seconds (Slurm's `--time` reads
    those as minutes). Raises `ValueError`.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"expected a duration such as {_EXAMPLES}, got {value!r}")
    text = str(value).strip().lower()
    seconds = _number(text)
    for read in (_units, _iso, _clock):
        seconds = read(text) if seconds is None else seconds
    if seconds is None or not 0 <= seconds <= _LONGEST_SECONDS:
        raise ValueError(f"expected a duration such as {_EXAMPLES}, got {value!r}")
    return seconds


def format_duration(seconds: float) -> str:
    """Return `seconds` as text in its two largest units: `23h59m`, `4m05s`, `12s`, `0.4s`."""
    if seconds < 9.95:
        return f"{seconds:.1f}s".replace(".0s", "s")
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d+(\.\d*)?([eE][+-]?\d+)?", text) else None


def _units(text: str) -> float | None:
    match = _UNITS.fullmatch(text.replace(" ", ""))
    if not text or match is None:
        return None
    return sum(float(n) * size for n, size in zip(match.groups(), _UNIT_SECONDS.values(), strict=True) if n)


def _iso(text: str) -> float | None:
    date, separator, time = text.removeprefix("p").partition("t")
    if not text.startswith("p") or not (date or time) or (separator and not time):
        return None
    if re.search(r"[hms]", date) or "d" in time:
        return None
    return _units(date + time)


def _clock(text: str) -> float | None:
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    days, *fields = match.groups()
    numbers = [float(field) for field in fields if field is not None]
    if days is None and len(numbers) == 2:  # MM:SS, as Slurm and YAML read it
        numbers = [0.0, *numbers]
    hours, minutes, seconds = (*numbers, 0.0, 0.0)[:3]
    return float(days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds
