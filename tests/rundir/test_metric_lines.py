"""The lines of metrics.jsonl: changed or lost lines are detected."""

import json

import pytest

from framework.errors import DamagedError
from framework.rundir.metric_lines import encode_records, parse_line, read_metrics

RECORDS = [{"node": "z", "epoch": step, "step": step, "train_loss": -1.25 * step} for step in range(1, 6)]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(encode_records(RECORDS)[0])
    return path


def edit(path, change):
    lines = path.read_text().splitlines(keepends=True)
    change(lines)
    path.write_text("".join(lines))


def test_records_are_read_as_they_were_written(path):
    metrics = read_metrics(path)
    assert (metrics.records, metrics.problems) == (RECORDS, [])


def test_added_lines_continue_from_the_checksum_of_the_last(path):
    first, check = encode_records(RECORDS[:2])
    assert first + encode_records(RECORDS[2:], check)[0] == path.read_text()


def test_one_changed_digit_is_found_and_the_lines_after_it_hold(path):
    edit(path, lambda lines: lines.__setitem__(2, lines[2].replace("-3.75", "-3.76")))
    metrics = read_metrics(path)
    assert metrics.records == RECORDS[:2] + RECORDS[3:]
    assert metrics.problems == [f"{path}: 1 of 5 lines have changed, or lines before them are lost"]


def test_every_flipped_byte_is_reported_or_changes_nothing(path):
    whole = path.read_bytes()
    for position in range(len(whole) - 1):  # the last one ends the last line: that would be half a line
        data = bytearray(whole)
        data[position] ^= 1
        path.write_bytes(data)
        metrics = read_metrics(path)
        assert metrics.problems
        assert all(record in RECORDS for record in metrics.records)


@pytest.mark.parametrize("lost", [slice(0, 1), slice(1, 2), slice(1, 4)])
def test_lost_lines_are_reported(path, lost):
    edit(path, lambda lines: lines.__delitem__(lost))
    assert "lines before them are lost" in read_metrics(path).problems[0]


def test_an_inserted_or_moved_line_is_reported(path):
    edit(path, lambda lines: lines.insert(3, lines[1]))
    metrics = read_metrics(path)
    assert metrics.problems and [r["step"] for r in metrics.records] in ([1, 2, 3, 5], [1, 2, 3, 4, 5])
    assert "2 of 6 lines" in metrics.problems[0]


@pytest.mark.parametrize(
    "line",
    ["", "{}", "5", "null", "[1]", "[" * 100_000, '{"node": 3, "step": 1}', '{"node": "z", "step": "1"}',
     '{"node": "z", "step": 1e999}', '{"node": "z", "step": true}', '{"node": "z", "step": ' + "9" * 30 + "}",
     '{"node": "z", "step": -1}', "\ud800"],
)  # fmt: skip
def test_what_is_not_a_record_is_skipped_and_reported(path, line):
    with path.open("ab") as file:
        file.write(line.encode(errors="surrogatepass") + b"\n")
    metrics = read_metrics(path)
    assert metrics.records == RECORDS
    assert metrics.problems == [f"{path}: damaged in 1 of 6 lines"]
    assert parse_line(line) is None


def test_half_a_last_line_is_one_being_written(path):
    path.write_bytes(path.read_bytes()[:-9])
    assert (read_metrics(path).records, read_metrics(path).problems) == (RECORDS[:-1], [])


def test_the_lines_of_an_older_version_have_no_checks(path):
    path.write_text("".join(f"{json.dumps(record)}\n" for record in RECORDS))
    assert (read_metrics(path).records, read_metrics(path).problems) == (RECORDS, [])


def test_a_link_is_not_followed_and_a_missing_file_holds_nothing(path, tmp_path):
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(DamagedError, match="is a link"):
        read_metrics(tmp_path / "link")
    assert read_metrics(tmp_path / "none").records == []


def test_the_record_of_one_line_has_no_check(path):
    assert [parse_line(line) for line in path.read_text().splitlines()] == RECORDS
