"""The progress of a run and the loss it is compared by: one definition, from the files in its directory."""

import json

import pytest

from framework.launcher.row import Row
from framework.rundir.attempts import Outcome
from framework.rundir.begin import begin_run
from framework.rundir.directory import RunDirectory
from framework.rundir.metric_lines import encode_records, read_metrics
from framework.rundir.metrics import read_progress
from framework.rundir.run_status import read_run
from framework.tracking import JsonlTracker
from framework.training.progress import Progress
from tests.support.toy_run import RECORD, empty_run, save_checkpoint, start_attempt


@pytest.fixture
def directory(tmp_path):
    return empty_run(tmp_path / "run")


def attempt(directory, *nodes):
    start_attempt(directory, num_epochs=dict.fromkeys(nodes, 300)).end(Outcome.TERMINATED)


def save(directory, **losses):
    """Commit a checkpoint of nodes that have taken 10 steps."""
    progress = {node: {"epoch": 1, "step": 10, "best_loss": loss, "finished": True} for node, loss in losses.items()}
    return save_checkpoint(directory, progress, config={"name": "a"})


def log(directory, node, *losses, first=1):
    """Add what training logs of epochs of 10 steps."""
    progress = Progress(epoch=first - 1, step=10 * (first - 1))
    with (directory.path / "metrics.jsonl").open("a") as file:
        for loss in losses:
            progress.step += 10
            progress.record(0.0, loss, 1e-3)
            file.write(json.dumps({"node": node, **progress.history[-1]}) + "\n")


def progress(directory):
    return read_progress(directory.path, directory.attempts())


def test_all_that_show_a_loss_show_the_sum_of_the_nodes_best(directory):
    attempt(directory, "a", "b")
    log(directory, "a", -4.0)
    log(directory, "b", 0.5)
    save(directory, a=-4.0, b=0.5)
    shown, row = read_run(directory.path), Row.known({"run_dir": directory.path, "overrides": [], "log": ""})
    assert shown.best_loss == row.best_loss == progress(directory).best_loss == -3.5
    assert shown.best_losses == row.best_losses == {"a": -4.0, "b": 0.5}


def test_a_run_whose_nodes_are_not_all_trained_has_no_loss_to_compare(directory):
    attempt(directory, "a", "b")
    assert progress(directory).best_losses == {"a": None, "b": None}
    save(directory, a=-4.0)
    found = progress(directory)
    assert (found.best_losses, found.best_loss) == ({"a": -4.0, "b": None}, None)
    assert (found.node, found.epoch) == ("a", 1)
    save(directory, a=-4.0, b=float("inf"))  # b has begun, and is not through its first epoch
    assert progress(directory).best_loss is None


def test_a_node_that_is_gone_counts_no_more(directory):
    attempt(directory, "a", "b")
    save(directory, a=-4.0, b=0.5)
    log(directory, "b", 0.5)
    attempt(directory, "a")
    found = progress(directory)
    assert (found.best_losses, found.best_loss, found.node) == ({"a": -4.0}, -4.0, "a")


def test_epochs_since_the_checkpoint_count(directory):
    attempt(directory, "a", "b")
    save(directory, a=-4.0, b=0.5)
    log(directory, "b", 0.5, 0.2, 0.3)
    found = progress(directory)
    assert (found.node, found.epoch, found.best_losses) == ("b", 3, {"a": -4.0, "b": 0.2})


def test_on_other_held_out_rows_the_best_is_what_training_goes_by_and_not_the_least_that_was_logged(directory):
    attempt(directory, "a")
    log(directory, "a", -9.0)
    save(directory, a=-2.0)  # measured again
    assert progress(directory).best_loss == -2.0
    log(directory, "a", -1.0, -3.0, first=2)
    assert progress(directory).best_loss == -3.0


def test_a_checkpoint_that_cannot_be_read_is_not_left_out_of_a_sum(directory):
    attempt(directory, "a", "b")
    save(directory, a=-4.0, b=0.5)
    (directory.checkpoints_dir / "00000001/b/checkpoint.json").write_text('{"progress": nul')
    assert progress(directory).best_losses == {"a": -4.0, "b": None}
    assert progress(directory).best_loss is None


@pytest.mark.parametrize("content", ["[]", "{}", '{"progress": 3}', '{"progress": {"best_loss": "low", "step": []}}'])
def test_nonsense_in_a_checkpoint_is_survived(directory, content):
    attempt(directory, "a")
    save(directory, a=-4.0)
    (directory.checkpoints_dir / "00000001/a/checkpoint.json").write_text(content)
    assert read_run(directory.path).best_losses == {"a": None}


def test_a_run_begins_with_the_metrics_of_what_it_begins_with(tmp_path, directory):
    attempt(directory, "a", "b")
    save(directory, a=-4.0)
    log(directory, "a", -4.0)
    save(directory, a=-4.0, b=0.5)
    log(directory, "b", 0.5, 0.2)
    other = RunDirectory(tmp_path / "other")
    begin_run(other, RECORD, directory.checkpoints_dir / "00000001", overwrite=False)
    attempt(other, "a", "b")
    assert progress(other).best_losses == {"a": -4.0, "b": None}
    whole = RunDirectory(tmp_path / "whole")
    begin_run(whole, RECORD, directory.path, overwrite=False)
    attempt(whole, "a", "b")
    assert progress(whole).best_losses == {"a": -4.0, "b": 0.5}  # the rest was never saved


HISTORY = [{"epoch": epoch, "step": 10 * epoch, "val_loss": 1 / epoch} for epoch in (1, 2, 3)]


@pytest.mark.parametrize("lines", [[], [0], [2], [0, 1], [0, 1, 2]], ids=str)
def test_lost_metrics_are_written_again_from_the_newest_checkpoint(directory, lines, caplog):
    save_checkpoint(directory, {"b": {"epoch": 3, "history": HISTORY}, "a": {"epoch": 3, "history": HISTORY}})
    text, _ = encode_records({"node": node, **HISTORY[line]} for node in ("b", "a") for line in lines)
    (directory.path / "metrics.jsonl").write_text(text)
    JsonlTracker(directory.path).close()
    found = read_metrics(directory.path / "metrics.jsonl")
    assert found.records == [{"node": node, **entry} for node in ("b", "a") for entry in HISTORY]
    assert not found.problems
    num_lost = 6 - 2 * len(lines)
    assert f"{num_lost} epochs were lost; recovered" in caplog.text if num_lost else not caplog.messages


@pytest.mark.parametrize("history", [None, 5, [5], [{}], [{"step": "1"}], [{"step": 2**70}]], ids=str)
def test_a_history_that_is_none_brings_nothing(directory, history):
    save_checkpoint(directory, {"a": {"epoch": 3, "history": history}})
    JsonlTracker(directory.path).close()
    assert (directory.path / "metrics.jsonl").read_text() == ""
