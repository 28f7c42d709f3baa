"""TensorBoard's event files, as TensorBoard reads them."""

import pytest

from framework.tracking import TensorBoardTracker

pytest.importorskip("tensorboard")


def attempt(run_dir, epochs, resume_at=0):
    tracker = TensorBoardTracker(run_dir)
    tracker.cut_back("z", resume_at * 10)
    for epoch in epochs:
        tracker.log({"node": "z", "epoch": epoch, "step": epoch * 10, "val_loss": 1 / epoch})
    tracker.close()


def test_what_is_done_again_replaces_what_was_there(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    attempt(tmp_path, range(1, 9))
    attempt(tmp_path, range(5, 11), resume_at=4)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("z/val_loss")] == list(range(10, 101, 10))


def test_a_resumed_run_continues_after_the_nodes_before(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = TensorBoardTracker(tmp_path)
    tracker.cut_back("a", 500)  # it has finished
    tracker.cut_back("z", 0)
    tracker.log({"node": "z", "epoch": 1, "step": 10, "val_loss": 1.0})
    tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("z/val_loss")] == [510]


def test_nothing_is_written_through_a_link(tmp_path, caplog):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tensorboard").symlink_to(tmp_path / "elsewhere")
    attempt(tmp_path, range(1, 3))
    assert not list((tmp_path / "elsewhere").iterdir())
    assert "tensorboard: cannot be written (is a link, expected a directory)" in caplog.text


@pytest.mark.parametrize("text", ["{}\n5\n[1]\n", '{"node": "a", "step": "x"}\n', "\0\n"])
def test_damaged_metrics_are_survived(tmp_path, text):
    (tmp_path / "metrics.jsonl").write_text(text)
    attempt(tmp_path, range(1, 3))
    assert list((tmp_path / "tensorboard").iterdir())
