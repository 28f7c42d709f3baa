"""Work on the files beside the checkpoints: lease, metrics, samples, report."""

import os

import numpy as np

from framework.inference.report import write_report
from framework.inference.samples import read_samples, write_samples
from framework.rundir.metric_lines import METRICS_FILE, read_metrics
from framework.runtime.lease import Lease
from framework.tracking import JsonlTracker
from tests.faults.section import Section

_NO_BEAT = 600.0


def _nothing(root):
    pass


# --- the lease ---


def _held(root):
    return Lease(root / "lease", heartbeat_seconds=_NO_BEAT)


def _hold_twice(root, acknowledge):
    for _ in range(2):
        with _held(root) as lease:
            acknowledge(("held", lease.number))
            lease._beat()
            lease.check()
        acknowledge(("released", lease.number))


def _hold(root, acknowledge):
    with _held(root) as lease:
        acknowledge(("held", lease.number))


def _lease_of_the_dead(root):
    child = os.fork()
    if child == 0:
        Lease(root / "lease", heartbeat_seconds=_NO_BEAT).__enter__()
        os._exit(0)
    os.waitpid(child, 0)


def _can_be_held(root, acknowledged, is_cut):
    with _held(root) as lease:
        numbers = [number for word, number in acknowledged if word == "held"]
        assert is_cut or lease.number > max(numbers, default=0), (lease.number, acknowledged)


# --- metrics ---

_NUM_STEPS = 8


def _records(last=_NUM_STEPS, first=1):
    return [
        {"node": "z", "step": step, "epoch": step, "train_loss": 1 / step, "best_loss": 1 / step}
        for step in range(first, last + 1)
    ]


def _log_metrics(root, acknowledge):
    tracker = JsonlTracker(root)
    tracker.cut_back("z", 0)
    for record in _records():
        tracker.log(record)
        acknowledge(record["step"])
    tracker.cut_back("z", 5)
    acknowledge(5)
    for record in _records(first=6, last=7):
        tracker.log(record)
        acknowledge(record["step"])
    tracker.close()
    JsonlTracker(root).close()


def _half_a_line(root):
    _log_metrics(root, lambda step: None)
    with (root / "metrics.jsonl").open("a") as file:
        file.write('{"node": "z", "st')


def _metrics_are_there(root, acknowledged, is_cut):
    """After a power cut the last ones may be missing; none is another's."""
    tracker = JsonlTracker(root)
    steps = [record["step"] for record in read_metrics(root / METRICS_FILE).records]
    assert steps == list(range(1, len(steps) + 1)), steps
    if acknowledged and not is_cut:
        assert len(steps) >= min(acknowledged[-1], 5), (steps, acknowledged)
    tracker.log(_records(first=len(steps) + 1, last=len(steps) + 1)[0])
    tracker.close()
    assert read_metrics(root / METRICS_FILE).records[-1]["step"] == len(steps) + 1


# --- samples and report ---


def _arrays(seed):
    rng = np.random.default_rng(seed)
    return {node: {"samples": rng.normal(size=(2, 50, 2))} for node in ("y", "z")}


def _write_samples(root, acknowledge, seed=1):
    labels = {"y": ["a", "b"], "z": []}
    write_samples(root / "samples/posterior", _arrays(seed), labels, {"kind": "posterior", "seed": seed})
    acknowledge(seed)


def _older_samples(root):
    _write_samples(root, lambda seed: None, 0)


def _samples_are_whole(root, acknowledged, is_cut):
    """Each node's are of one draw; the run writes them again if they were not acknowledged."""
    if (root / "samples/posterior").is_dir():
        found = read_samples(root / "samples/posterior")
        seeds = [1] if acknowledged else [0, 1]
        for node, arrays in found.items():
            assert any(np.array_equal(arrays["samples"], _arrays(seed)[node]["samples"]) for seed in seeds), node
        assert not acknowledged or len(found) == 2
    _write_samples(root, lambda seed: None)
    assert len(read_samples(root / "samples/posterior")) == 2


def _write_report(root, acknowledge):
    write_report(root / "report", title="two moons", run_info={"seed": "0"}, nodes=())
    acknowledge("written")


def _report_is_whole(root, acknowledged, is_cut):
    page = root / "report/report.html"
    if acknowledged or page.exists():
        assert page.read_text().rstrip().endswith("</html>")
    _write_report(root, lambda word: None)
    assert page.read_text().rstrip().endswith("</html>")


SECTIONS = [
    Section("lease", _nothing, _hold_twice, _can_be_held),
    Section("lease taken over", _lease_of_the_dead, _hold, _can_be_held),
    Section("metrics", _nothing, _log_metrics, _metrics_are_there),
    Section("metrics of a killed one", _half_a_line, _log_metrics, _metrics_are_there),
    Section("samples", _nothing, _write_samples, _samples_are_whole),
    Section("samples again", _older_samples, _write_samples, _samples_are_whole),
    Section("report", _nothing, _write_report, _report_is_whole),
]
