"""Metrics on disk and what is shown of them."""

import io
import json
import logging
import resource

from rich.console import Console as RichConsole

from framework.tracking import Console, JsonlTracker


def record(step, node="z"):
    return {"node": node, "epoch": step // 10, "step": step}


def test_every_record_is_on_disk_at_once(tmp_path):
    tracker = JsonlTracker(tmp_path)
    tracker.log(record(10))
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == record(10)


def test_a_resumed_run_cuts_back_its_node_and_appends(tmp_path):
    tracker = JsonlTracker(tmp_path)
    for entry in (record(10, "a"), record(10), record(20), record(30)):
        tracker.log(entry)
    tracker.close()
    resumed = JsonlTracker(tmp_path)
    resumed.cut_back("z", 20)
    resumed.log(record(30))
    assert resumed.read() == [record(10, "a"), record(10), record(20), record(30)]


def test_half_a_line_of_a_killed_attempt_is_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record(10)) + '\n{"node": "z", "ep')
    tracker = JsonlTracker(tmp_path)
    tracker.log(record(20))
    assert tracker.read() == [record(10), record(20)]


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
        f"⚠ {tmp_path}/metrics.jsonl: metrics are not written (File too large); training goes on"
    ]
    tracker.log(records[2])
    assert tracker.read() == records


def test_damaged_lines_are_left_out_and_told_of(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(json.dumps(record(10)).encode() + b"\n\0\0\0\xff\n" + json.dumps(record(20)).encode() + b"\n")
    assert JsonlTracker(tmp_path).read() == [record(10), record(20)]
    assert "damaged in 1 of 3 lines" in caplog.text


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
