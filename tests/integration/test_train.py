"""`python -m framework.train` from the first simulation to the report, and started again in the same directory."""

import json
import re
import shutil
import signal
import time

import numpy as np
import pytest
import torch
import yaml

from framework import load_run
from tests.support.command import TINY, cold_start, run, train, warm_start
from tests.support.slow_project import same_arrays


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A directory with one finished run of the default experiment, and what the command printed."""
    cwd = tmp_path_factory.mktemp("finished")
    result = train("inference.report=true", cwd=cwd, start=cold_start)
    assert result.returncode == 0, result.stderr
    return cwd, result.stdout


@pytest.fixture
def copied(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True, symlinks=True)
    return tmp_path


def files(directory):
    found = [p.relative_to(directory) for p in directory.rglob("*") if p.is_file()]
    return sorted(str(path) for path in found if path.parent.name != "lease")


def test_a_run_leaves_what_the_design_promises(finished):
    run_dir = finished[0] / "outputs/two_moons"
    names = files(run_dir)
    for name in ("config.yaml", "run.json", "metrics.jsonl", "attempts/001.json", "simulations/index.json"):
        assert name in names
    for name in ("samples/posterior/z.npz", "samples/predictive/x.npz", "report/report.html", "report/z_corner_0.png"):
        assert name in names
    node = sorted(p.name for p in (run_dir / "checkpoints/latest/z").iterdir())
    weights = [f"{part}{kind}.pth" for part in ("conditional_flow", "embedding") for kind in ("", "_best")]
    assert node == sorted([*weights, "init_parameters.pth", "optimizer.pth", "simulations.pth", "checkpoint.json"])
    state = json.loads((run_dir / "checkpoints/latest/z/checkpoint.json").read_text())
    assert state["run"].keys() >= {"versions", "git_commit", "saved_at", "elapsed_seconds"}
    assert state["run"]["elapsed_seconds"] > 0


def test_a_run_says_what_it_does_and_where_the_results_are(finished):
    out = finished[1]
    assert "z ─┐" in out
    assert "300 simulations" in out
    assert "training z 2/2" in out
    assert "outputs/two_moons/report/report.html" in out


def test_samples_hold_every_observation_with_the_density_of_each_sample(finished):
    loaded = load_run(finished[0] / "outputs/two_moons")
    arrays = loaded.samples()["z"]
    assert arrays["samples"].shape == (10, 50, 2)
    assert arrays["log_prob"].shape == (10, 50)
    posterior = loaded.posterior("z")
    expected = posterior.log_prob(arrays["samples"][3], observation=3)
    torch.testing.assert_close(torch.tensor(arrays["log_prob"][3]), expected, atol=1e-3, rtol=1e-3)


def test_the_report_says_how_much_was_learned_of_what_the_prior_knew(finished):
    """Measured here from outside: at the simulations held out, the posterior's density against the prior's."""
    run_dir = finished[0] / "outputs/two_moons"
    loaded = load_run(run_dir)
    held_out = torch.load(run_dir / "checkpoints/latest/z/simulations.pth")["validation"]
    simulations = loaded.simulations("z", "x")
    x = {"x": torch.from_numpy(simulations["x"])[held_out]}
    log_prob = loaded.joint_posterior.estimators["z"].log_prob(torch.from_numpy(simulations["z"])[held_out], x)
    gain = log_prob.double() - np.log(1 / 4)  # uniform on a square of side 2
    node = json.loads((run_dir / "report/summary.json").read_text())["nodes"]["z"]
    assert node["information_gain"] == pytest.approx(gain.mean().item(), rel=1e-5)
    assert node["information_gain_standard_error"] == pytest.approx(gain.std().item() / len(gain) ** 0.5, rel=1e-5)
    assert re.search(r"<td>\d\.\d+ ± 0\.\d+ nats</td>", (run_dir / "report/report.html").read_text())


def test_the_metrics_are_one_record_per_epoch(finished):
    lines = (finished[0] / "outputs/two_moons/metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [(r["node"], r["epoch"]) for r in records] == [("z", 1), ("z", 2)]
    assert records[0].keys() == {"node", "epoch", "step", "train_loss", "val_loss", "best_loss", "lr", "check"}


def test_the_same_command_gives_the_same_numbers_with_any_number_of_workers(finished, tmp_path):
    """And whether it is started cold, as the first run was, or warm."""
    result = train("simulation.workers=2", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    samples = "outputs/two_moons/samples/posterior/z.npz"
    assert same_arrays(tmp_path / samples, finished[0] / samples)


def test_a_run_is_not_started_over_by_accident(copied):
    before = files(copied)
    result = train(cwd=copied)
    assert result.returncode == 3
    assert "outputs/two_moons already contains a run" in result.stderr
    assert all(way in result.stderr for way in ("+resume=true", "name=...", "overwrite=true"))
    assert files(copied) == before


def test_a_finished_run_resumed_says_so(copied):
    result = train("+resume=true", "inference.report=true", cwd=copied)
    assert result.returncode == 0, result.stderr
    assert "already finished" in result.stdout


def test_overwrite_moves_the_old_run_aside(copied):
    result = train("overwrite=true", "seed=1", cwd=copied)
    assert result.returncode == 0, result.stderr
    assert (copied / "outputs/two_moons.old-1/report/report.html").exists()
    assert yaml.safe_load((copied / "outputs/two_moons/config.yaml").read_text())["seed"] == 1


def test_more_epochs_train_on_as_if_they_had_been_asked_for_at_once(copied, tmp_path_factory):
    result = train("+resume=true", "loop.num_epochs=4", cwd=copied)
    assert result.returncode == 0, result.stderr
    assert "↻ Resuming z from epoch 2/4" in result.stdout
    whole = tmp_path_factory.mktemp("whole")
    assert train("loop.num_epochs=4", cwd=whole).returncode == 0
    metrics, samples = "outputs/two_moons/metrics.jsonl", "outputs/two_moons/samples/posterior/z.npz"
    assert (copied / metrics).read_text() == (whole / metrics).read_text()
    assert same_arrays(copied / samples, whole / samples)


def test_a_run_that_was_trained_on_and_stopped_before_its_results_makes_them_on_resume(copied):
    more = ["+resume=true", "loop.num_epochs=4"]
    assert train(*more, cwd=copied).returncode == 0
    path = copied / "outputs/two_moons/attempts/002.json"
    entries = json.loads(path.read_text())
    del entries["results_of"]  # as if it had been killed while sampling
    path.write_text(json.dumps(entries | {"stop_reason": "lost"}))
    samples = copied / "outputs/two_moons/samples/posterior/z.npz"
    expected = samples.read_bytes()
    samples.write_bytes(b"of fewer epochs")
    result = train(*more, cwd=copied)
    assert result.returncode == 0 and "has already finished" not in result.stdout
    assert samples.read_bytes() == expected
    assert "has already finished" in train(*more, cwd=copied).stdout


def test_another_network_cannot_resume_a_run(copied):
    result = train("+resume=true", "network.hidden_dim=9", cwd=copied)
    assert result.returncode == 3
    assert "incompatible config" in result.stderr
    assert "  network.hidden_dim: 8 → 9  (" in result.stderr
    assert "(8, 4) → (9, 4)" in result.stdout


def test_a_run_is_resumed_in_a_new_directory(copied):
    result = train("name=longer", "+resume_from=outputs/two_moons", "loop.num_epochs=3", cwd=copied)
    assert result.returncode == 0, result.stderr
    assert "↻ Resuming z from epoch 2/3" in result.stdout
    assert len((copied / "outputs/longer/metrics.jsonl").read_text().splitlines()) == 3
    assert len((copied / "outputs/two_moons/metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("number", "exit_code", "word"), [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 99, "Terminated")]
)
def test_a_signal_saves_and_the_resumed_run_ends_as_if_nothing_had_happened(number, exit_code, word, tmp_path):
    longer = [
        "simulation.num_simulations=2000",
        "loop.num_epochs=40",
        "loop.early_stop_patience=null",
    ]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()
    assert train(*longer, cwd=whole).returncode == 0
    process = warm_start("framework.train", *TINY, *longer, "loop.num_epochs=100000", cwd=cut)
    metrics = "outputs/two_moons/metrics.jsonl"
    while not (cut / metrics).exists() or len((cut / metrics).read_text().splitlines()) < 3:
        assert process.poll() is None, process.output
        time.sleep(0.005)
    process.send(number)
    result = process.wait()
    out = result.stdout + result.stderr
    assert result.returncode == exit_code, out
    assert f"⚠ {word} at epoch" in out
    assert "model + weights saved to outputs/two_moons/checkpoints/latest/z/" in out
    assert not (cut / "outputs/two_moons/samples").exists()
    result = train(*longer, "+resume=true", cwd=cut)
    assert result.returncode == 0, result.stderr
    samples = "outputs/two_moons/samples/posterior/z.npz"
    assert same_arrays(cut / samples, whole / samples)
    assert (cut / metrics).read_text() == (whole / metrics).read_text()


def test_an_interrupted_simulation_phase_resumes_where_it_stopped(tmp_path):
    assert train(cwd=tmp_path).returncode == 0
    run_dir = tmp_path / "outputs/two_moons"
    expected = load_run(run_dir).simulations("z", "x")
    shutil.rmtree(run_dir / "checkpoints")
    max((run_dir / "simulations").glob("*.npy")).unlink()
    assert train("+resume=true", cwd=tmp_path).returncode == 0
    again = load_run(run_dir).simulations("z", "x")
    assert all(np.array_equal(again[name], expected[name]) for name in expected)


def test_a_chain_of_nodes_is_trained_and_sampled_jointly(tmp_path):
    result = train("experiment=signal_chain", "inference.num_predictive=5", "inference.report=true", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    loaded = load_run(tmp_path / "outputs/signal_chain")
    assert loaded.samples()["source"]["samples"].shape == (10, 50, 3)
    assert loaded.samples()["calibration"]["samples"].shape == (10, 50, 2)


def test_presimulated_data_train_a_run(tmp_path):
    theta = np.random.default_rng(0).uniform(-1, 1, (400, 2))
    theta[17, 1] = 5
    np.savez(tmp_path / "mine.npz", z=theta, x=theta + 0.1)
    result = train("simulation.from_file=mine.npz", "inference.report=true", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "300 of the 400 simulations in mine.npz (simulation.num_simulations=300)" in result.stdout
    assert "outside priors.z: 1, such as row 17: z[1]=5, expected -1 to 1" in result.stdout
    entries = json.loads((tmp_path / "outputs/two_moons/report/summary.json").read_text())["facts"]
    assert entries["simulations"] == "299 valid, 1 invalid"
    more = ["simulation.from_file=mine.npz", "simulation.num_simulations=350", "+resume=true"]
    assert train(*more, cwd=tmp_path).returncode == 3
    result = train(*more, "resume_allow=[simulation.num_simulations]", "loop.num_epochs=3", cwd=tmp_path)
    assert result.returncode == 0 and "349 simulations, 1 more" in result.stdout, result.stderr
    result = run("framework.sample", "outputs/two_moons", "prior", "inference.num_samples=7", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
