"""Durations as people and schedulers write them: what is read, what is refused, and how they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.config.duration import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("23h30m", 84_600),
        ("90s", 90),
        ("5m", 300),
        ("1.5h", 5_400),
        ("2d", 172_800),
        ("1-12:00:00", 129_600),
        ("1-12", 129_600),
        ("36:00:00", 129_600),
        ("12:30", 750),
        ("PT2H", 7_200),
        ("P1DT12H", 129_600),
        ("90", 90),
        (90, 90),
        (43_200, 43_200),  # what YAML makes of an unquoted 12:00:00
        (0.5, 0.5),
        (" 5M ", 300),
    ],
)
def test_reads_what_people_and_schedulers_write(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5x", "m5", "-5", "5m3h", "PT", "P1H", "PT1D", "1:2:3:4", "12:75", "nan", "inf", True, None, []]
)
def test_refuses_anything_else_with_examples(text):
    with pytest.raises(ValueError, match="expected a duration such as 90s, 5m, 23h30m"):
        parse_duration(text)


@given(st.integers(0, 10_000_000))
def test_what_it_writes_it_reads_back_to_the_precision_shown(seconds):
    precision = 3600 if seconds >= 86_400 else 60 if seconds >= 3600 else 1
    assert abs(parse_duration(format_duration(seconds)) - seconds) < precision


def test_writes_the_two_units_that_matter():
    assert [format_duration(s) for s in (0.4, 12, 245, 86_399, 129_600)] == ["0.4s", "12s", "4m05s", "23h59m", "1d12h"]
