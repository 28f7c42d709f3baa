"""Searches by Optuna: the real sweeper, launcher and study; with tasks that take no time, and once with real runs."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from hydra.errors import HydraException
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from framework.attempt import Attempt
from framework.errors import CheckpointError, ConfigError, ResumeRefusedError, SweepError
from framework.launcher.space import Space
from framework.rundir.directory import RunDirectory
from framework.runtime import DistributedContext, Guard
from framework.runtime.lease import Lease
from tests.support.command import environment, train
from tests.support.toy_run import plan
from tests.support.toy_sweep import hang_once, stop, study, wait_for

SWEEP = Path("multirun/two_moons")
SEEDS = ["seed=range(0,8)", "hydra.sweeper.n_jobs=1", "hydra.launcher.num_parallel=1"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])


def trials():
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(SWEEP / "study.journal")))
    found = optuna.load_study(study_name="study", storage=storage).trials
    return [(trial.state.name, trial.params, trial.value) for trial in found]


def states():
    return [state for state, _, _ in trials()]


def test_the_value_of_a_trial_is_what_training_returns_and_its_folder_names_its_parameters(tmp_path):
    command = ["-m", "hydra/sweeper=study", "optimizer.lr=tag(log,interval(1e-4,1e-2))", "hydra.sweeper.n_trials=1"]
    ended = train(*command, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    ((state, parameters, value),) = trials()
    (run_dir,) = (path.parent for path in SWEEP.glob("*/run.json"))
    assert f",optimizer.lr={parameters['optimizer.lr']}," in run_dir.name
    record, finished = json.loads((run_dir / "attempts/001.json").read_text()), RunDirectory(run_dir)
    assert record["command"][2:] == [*record["overrides"], f"hydra.run.dir='{run_dir.absolute()}'"]
    with Guard() as guard:
        planned = plan(finished, *record["overrides"], "+resume=true")
        with Attempt(planned, finished, guard, DistributedContext()) as attempt:
            result = attempt.run()
    assert (state, value) == ("COMPLETE", result)


def test_the_same_command_again_adds_trials_and_the_summary_has_all_of_them():
    study(*SEEDS, "hydra.sweeper.n_trials=1")
    study(*SEEDS, "hydra.sweeper.n_trials=2")
    assert states() == ["COMPLETE"] * 3
    rows = list(csv.DictReader((SWEEP / "sweep.csv").read_text().splitlines()))
    searched = {str(parameters["seed"]) for _, parameters, _ in trials()}
    assert {row["seed"] for row in rows} == searched
    assert all(f"seed={seed}" in (SWEEP / "sweep.html").read_text() for seed in searched)


def test_a_trial_that_fails_is_told_as_failed_and_the_study_continues():
    sampler = ["hydra.sweeper.sampler._target_=optuna.samplers.RandomSampler", "++hydra.sweeper.sampler.seed=0"]
    with pytest.raises(SweepError, match=r"1 of 2 trials failed; .*/sweep.csv has the reasons") as raised:
        study("seed=14,13", *SEEDS[1:], "hydra.sweeper.n_trials=2", *sampler)
    assert raised.value.exit_code == 1
    assert [(state, parameters["seed"]) for state, parameters, _ in trials()] == [("FAIL", "13"), ("COMPLETE", "14")]
    rows = list(csv.DictReader((SWEEP / "sweep.csv").read_text().splitlines()))
    assert [row["reason"] for row in rows if row["state"] == "failed"] == ["thirteen is no number of simulations"]


def test_a_study_that_was_killed_resumes_the_trials_that_were_under_way(tmp_path):
    script = f"from tests.support.toy_sweep import *; study(*{SEEDS}, 'hydra.sweeper.n_trials=3', function=hang_once)"
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    wait_for(lambda: list(SWEEP.glob("*/began")))
    process.kill()
    process.wait()
    assert states() == ["RUNNING"]
    (began,) = SWEEP.glob("*/began")
    os.kill(int(began.read_text()), signal.SIGKILL)
    ((_, begun, _),) = trials()
    study(*SEEDS, "hydra.sweeper.n_trials=2", function=hang_once)  # fewer than before: what is asked for last counts
    assert states() == ["COMPLETE"] * 2
    assert trials()[0][1] == begun


def test_trials_that_have_stopped_end_the_study_and_are_left_for_the_next_start():
    with pytest.raises(SweepError, match="1 trials have stopped: the same command resumes them") as raised:
        study(*SEEDS, function=stop)
    assert raised.value.exit_code == 99
    assert states() == ["RUNNING"]


def test_a_sampler_with_a_seed_does_not_propose_the_same_trials_again():
    sampler = ["hydra.sweeper.sampler._target_=optuna.samplers.RandomSampler", "++hydra.sweeper.sampler.seed=0"]
    for _ in range(2):
        study("optimizer.lr=interval(1e-4,1e-2)", *SEEDS[1:], *sampler, "hydra.sweeper.n_trials=1")
    first, second = (parameters for _, parameters, _ in trials())
    assert first != second


@pytest.mark.filterwarnings("ignore:BruteForceSampler is experimental")
def test_a_sampler_that_has_tried_everything_ends_the_study():
    sampler = "hydra.sweeper.sampler._target_=optuna.samplers.BruteForceSampler"
    study("seed=1,2", sampler, "hydra.sweeper.n_trials=9")  # two at once
    assert sorted(parameters["seed"] for _, parameters, _ in trials()) == ["1", "2"]


def test_two_commands_at_once_do_not_share_a_study():
    with Lease(SWEEP / "lease"), pytest.raises(ResumeRefusedError, match="multirun/two_moons: in use by"):
        study(*SEEDS)


def test_a_line_of_the_journal_that_a_crash_has_cut_off_is_done_without():
    study(*SEEDS, "hydra.sweeper.n_trials=1")
    with (SWEEP / "study.journal").open("a") as file:
        file.write('{"op_code": 4, "work')
    study(*SEEDS, "hydra.sweeper.n_trials=1")
    assert states() == ["COMPLETE"] * 2


def test_a_damaged_line_of_the_journal_is_told_and_nothing_is_changed():
    study(*SEEDS, "hydra.sweeper.n_trials=1")
    journal = SWEEP / "study.journal"
    lines = journal.read_text().splitlines()
    for line in ["{}", "5", "null", "[1]", "[" * 100_000, '{"op_code": "1"}', "\0", '{"op_code": 4}']:
        journal.write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n")
        before = journal.read_bytes()
        with pytest.raises(CheckpointError, match=r"study\.journal: damaged \(.*restore it, or start another study"):
            study(*SEEDS, "hydra.sweeper.n_trials=1")
        assert journal.read_bytes() == before
    journal.rename(SWEEP / "elsewhere")
    journal.symlink_to("elsewhere")
    with pytest.raises(CheckpointError, match=r"study\.journal: is a link"):
        study(*SEEDS, "hydra.sweeper.n_trials=1")


def test_a_trial_that_was_killed_before_it_had_its_values_is_given_up_and_replaced():
    study(*SEEDS, "hydra.sweeper.n_trials=1")
    storage = JournalStorage(JournalFileBackend(str(SWEEP / "study.journal")))
    begun = optuna.load_study(study_name="study", storage=storage)
    begun.set_user_attr("num_asked", 3)
    begun.set_user_attr("num_before", 1)
    begun.ask()
    study(*SEEDS, "hydra.sweeper.n_trials=2")
    assert states() == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "framework.launcher.study", raising=False)
    with pytest.raises(
        ConfigError, match=r"hydra/sweeper=study: the package optuna is missing; pip install 'framework\[optuna\]'"
    ):
        study(*SEEDS)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=3"], r"hydra/sweeper=study: nothing to search; write values"),
        (["seed=1,2", "hydra/launcher=basic"], r"hydra/sweeper=study: write hydra/launcher=slurm_local as well"),
        (["seed=1,2", "hydra.sweeper.n_trials=0"], r"hydra\.sweeper\.n_trials=0: expected at least 1"),
        (["seed=1,2", "hydra.sweeper.sampler._target_=optuna.samplers.TPE"], r"hydra\.sweeper\.sampler.*TPE"),
        (["optimizer.lr=tag(log,interval(0,1))"], r"^optimizer\.lr=tag\(log,interval\(0,1\)\): low > 0 must hold"),
        (["loop.batch_size=int(interval(0,64))"], r"^loop\.batch_size=0: expected at least 1"),
    ],
    ids=["nothing", "launcher", "number", "sampler", "limits", "value"],
)
def test_a_mistake_names_its_key(overrides, message):
    with pytest.raises(ConfigError, match=message):
        study(*overrides)
    assert not SWEEP.exists()


def test_a_misspelt_choice_is_found_before_a_trial_has_it():
    with pytest.raises(HydraException, match="network/nfs"):
        study("network=maf,nsf,nice,nfs", *SEEDS[1:])
    assert not SWEEP.exists()


def test_all_choices_and_the_ends_of_ranges_are_checked():
    corners = Space(["a=x,y,z", "n=int(interval(1,8))", "b=0"], loader=None).corners()
    assert corners == [["b=0", "a=x", "n=1"], ["b=0", "a=y", "n=8"], ["b=0", "a=z", "n=1"]]


def test_other_choices_need_another_study():
    study("network=maf,nsf", *SEEDS[1:], "hydra.sweeper.n_trials=1")
    with pytest.raises(ConfigError, match=r"study.journal: its trials had other choices .*; choose another name="):
        study("network=maf,nice", *SEEDS[1:])


@pytest.mark.parametrize(
    ("override", "distribution"),
    [
        ("n=int(interval(1,8))", IntDistribution(1, 8)),
        ("x=tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("n=range(1,8,3)", IntDistribution(1, 7, step=3)),
        ("n=tag(log,range(1,8))", IntDistribution(1, 7, log=True)),
        ("x=range(0.1,0.55,0.1)", FloatDistribution(0.1, 0.5, step=0.1)),
        ("x=a,'b c',null,64", CategoricalDistribution(["a", "'b c'", "null", "64"])),
    ],
)
def test_values_are_searched_as_hydra_reads_them(override, distribution):
    space = Space([override, "y=1", "y=2", "~z"], loader=None)
    assert list(space.distributions.values()) == [distribution]
    assert space.overrides({"+n": 3}) == ["y=2", "~z", "+n=3"]
