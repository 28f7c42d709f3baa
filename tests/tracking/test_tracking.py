"""Metrics on disk, and what the console shows of them."""

import errno
import io
import json
import logging
import os
import resource

import pytest
from rich.console import Console as RichConsole

from framework.errors import UnreadableError
from framework.rundir.metric_lines import read_metrics
from framework.tracking import Console, JsonlTracker


def record(step, node="z"):
    return {"node": node, "epoch": step // 10, "step": step}


def stored(run_dir):
    """Return the records of a file that is as it was written."""
    metrics = read_metrics(run_dir / "metrics.jsonl")
    assert not metrics.problems
    return metrics.records


def test_every_record_is_on_disk_at_once(tmp_path):
    tracker = JsonlTracker(tmp_path)
    tracker.log(record(10))
    assert stored(tmp_path) == [record(10)]


def test_a_resumed_run_cuts_back_its_node_and_appends(tmp_path):
    tracker = JsonlTracker(tmp_path)
    for entry in (record(10, "a"), record(10), record(20), record(30)):
        tracker.log(entry)
    tracker.close()
    resumed = JsonlTracker(tmp_path)
    resumed.cut_back("z", 20)
    resumed.log(record(30))
    assert stored(tmp_path) == [record(10, "a"), record(10), record(20), record(30)]


def test_half_a_line_of_a_killed_attempt_is_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record(10)) + '\n{"node": "z", "ep')
    tracker = JsonlTracker(tmp_path)
    tracker.log(record(20))
    assert stored(tmp_path) == [record(10), record(20)]


def test_on_a_terminal_there_is_a_bar():
    screen = io.StringIO()
    console = Console(RichConsole(file=screen, force_terminal=True, width=120))
    with console.phase("training z", total=300, done=46):
        console.update(47, "train 1.0")
    assert "training z" in screen.getvalue()
    assert "47/300" in screen.getvalue()


def test_elsewhere_there_are_lines_at_a_fixed_cadence(caplog, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("framework.tracking.console.time.monotonic", lambda: now[0])
    console = Console(RichConsole(file=io.StringIO(), force_terminal=False))
    with caplog.at_level(logging.INFO), console.phase("training z", total=100):
        for epoch in range(1, 101):
            now[0] += 0.7
            console.update(epoch, "train 1.0", last=epoch == 100)
    shown = [line.split()[2] for line in caplog.messages]
    assert shown == ["15/100", "30/100", "45/100", "60/100", "75/100", "90/100", "100/100"]
    assert "≤ 59s left" in caplog.messages[0]


def test_metrics_that_cannot_be_written_are_written_later(tmp_path, caplog):
    tracker = JsonlTracker(tmp_path)
    records = [{"node": "z", "epoch": epoch, "step": epoch} for epoch in range(1, 4)]
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, most))
    try:
        tracker.log(records[0]), tracker.log(records[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert [r.getMessage() for r in caplog.records] == [
        f"⚠ {tmp_path}/metrics.jsonl: metrics are not written (File too large); training continues"
    ]
    tracker.log(records[2])
    assert stored(tmp_path) == records


def test_damaged_lines_are_skipped_and_reported(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(json.dumps(record(10)).encode() + b"\n\0\0\0\xff\n" + json.dumps(record(20)).encode() + b"\n")
    JsonlTracker(tmp_path)
    assert stored(tmp_path) == [record(10), record(20)]
    assert "damaged in 1 of 3 lines, which are dropped" in caplog.text


def test_on_a_full_disk_a_tracker_begins_all_the_same(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(record(10)) + '\n{"node": "z", "ep')
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, most))
    try:
        JsonlTracker(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert "metrics are not written (File too large)" in caplog.text


@pytest.mark.parametrize("line", ["{}", "5", "null", "[1]", '{"node": "z", "step": "many"}', "[" * 100_000])
def test_what_is_no_record_does_not_stand_in_the_way_of_a_resume(tmp_path, caplog, line):
    (tmp_path / "metrics.jsonl").write_text(f"{json.dumps(record(10))}\n{line}\n{json.dumps(record(30))}\n")
    tracker = JsonlTracker(tmp_path)
    tracker.cut_back("z", 20)
    tracker.log(record(20))
    tracker.close()
    assert stored(tmp_path) == [record(10), record(20)]
    assert "damaged in 1 of 3 lines" in caplog.text


def test_a_changed_number_is_reported(tmp_path, caplog):
    tracker = JsonlTracker(tmp_path)
    for step in (10, 20, 30):
        tracker.log(record(step))
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text().replace('"epoch": 2', '"epoch": 7'))
    JsonlTracker(tmp_path)
    assert stored(tmp_path) == [record(10), record(30)]
    assert "1 of 3 lines have changed, or lines before them are lost, which are dropped" in caplog.text


def test_nothing_is_appended_through_a_link(tmp_path, caplog):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/metrics.jsonl").symlink_to(precious)
    JsonlTracker(tmp_path / "run").log(record(10))
    assert precious.read_text() == "precious" and stored(tmp_path / "run") == [record(10)]
    assert "is a link" in caplog.text


def test_a_directory_in_place_of_the_metrics_costs_a_warning(tmp_path, caplog):
    (tmp_path / "metrics.jsonl").mkdir()
    tracker = JsonlTracker(tmp_path)
    tracker.log(record(10))
    tracker.close()
    assert stored(tmp_path) == [record(10)] and "renamed to metrics.jsonl.damaged" in caplog.text


def test_metrics_that_cannot_be_read_now_are_not_written_over(tmp_path, monkeypatch):
    JsonlTracker(tmp_path).log(record(10))
    whole = (tmp_path / "metrics.jsonl").read_bytes()

    def refuse(*args, **kwargs):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched, pytest.raises(UnreadableError, match="cannot be read now"):
        patched.setattr(os, "read", refuse)
        JsonlTracker(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole


def test_half_a_line_that_a_full_disk_has_left_is_completed_with_the_next(tmp_path, monkeypatch):
    tracker, write = JsonlTracker(tmp_path), os.write
    tracker.log(record(10))

    def half(descriptor, data):
        monkeypatch.setattr(os, "write", full)
        return write(descriptor, data[: len(data) // 2])

    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    tracker.log(record(20))
    monkeypatch.setattr(os, "write", write)
    tracker.log(record(30))
    assert stored(tmp_path) == [record(10), record(20), record(30)]


def test_records_are_on_disk_for_good_when_the_file_is_closed(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    tracker = JsonlTracker(tmp_path)
    tracker.log(record(10))
    synced.clear()
    tracker.close()
    assert synced == [(tmp_path / "metrics.jsonl").stat().st_ino]
