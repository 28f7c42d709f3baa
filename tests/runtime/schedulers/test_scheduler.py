"""A scheduler is one class in one file and one line in the list; what the class leaves out is done without."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import framework
from framework.environment_variables import JOB_SCRIPT, REQUEUE_FILE, REQUEUED, SHOW_TRACEBACK
from framework.runtime import BudgetReader, Requeuer, StopReason, budget, check_signal_delivery, schedulers
from framework.runtime.schedulers import SCHEDULERS, Scheduler, find_job, job_id, start_number

ROOT = Path(framework.__file__).parent


class Queue(Scheduler):
    """The least that a scheduler is."""

    def job_id(self, environment):
        return environment.get("QUEUE_JOB")


@pytest.fixture
def queue(monkeypatch):
    """The environment of a job of a scheduler that is new in the list."""
    for module in (schedulers, budget):
        monkeypatch.setattr(module, "SCHEDULERS", (*SCHEDULERS, Queue()))
    return {"QUEUE_JOB": "q1"}


def test_each_file_that_holds_a_scheduler_is_in_the_list_once():
    names = [module.name for module in pkgutil.iter_modules(schedulers.__path__)]
    modules = [importlib.import_module(f"framework.runtime.schedulers.{name}") for name in names]
    found = [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Scheduler) and value.__module__ == module.__name__
    ]
    assert sorted(type(s).__name__ for s in SCHEDULERS) == sorted(kind.__name__ for kind in found if kind != Scheduler)


def test_a_new_scheduler_has_to_know_its_job_and_nothing_else(queue):
    assert job_id(queue) == "q1" and start_number(queue) == 0 and check_signal_delivery(queue) == ""
    assert BudgetReader("auto", queue).read() is None


@pytest.mark.parametrize("environment", [{"QUEUE_JOB": "q1"}, {"FLUX_JOB_ID": "f7"}], ids=["new", "flux"])
def test_in_a_job_that_cannot_be_requeued_nothing_is_asked_and_nothing_counted(commands, queue, tmp_path, environment):
    commands("flux", script="exit 0")
    for _ in range(3):
        Requeuer("auto", tmp_path / "stuck", None, 99, environment).after(StopReason.OUT_OF_TIME, has_progressed=False)
    assert commands.calls() == [] and not (tmp_path / "stuck").exists()


@pytest.mark.parametrize("environment", [{"QUEUE_JOB": "q1"}, {"FLUX_JOB_ID": "f7"}], ids=["new", "flux"])
def test_a_launcher_requeues_its_jobs_there_all_the_same(queue, tmp_path, environment):
    calls = []
    requeuer = Requeuer("auto", tmp_path / "stuck", lambda *args: calls.append(args), 99, environment)
    requeuer.after(StopReason.REQUEUE, has_progressed=True)
    assert len(calls) == 1


def test_of_nested_jobs_the_first_scheduler_in_the_list_counts():
    scheduler, job = find_job({"SLURM_JOB_ID": "7", "FLUX_JOB_ID": "f7"})
    assert (type(scheduler).__name__, job) == ("Slurm", "7")
    assert find_job({}) == (None, None)


def test_a_scheduler_that_can_requeue_has_all_that_this_takes():
    for scheduler in SCHEDULERS:
        for method in ("state", "requeue", "submit_successor", "script_hint"):
            is_there = getattr(type(scheduler), method) is not getattr(Scheduler, method)
            assert is_there == scheduler.can_requeue, (scheduler, method)


def test_the_names_of_the_frameworks_own_variables_stand_in_one_file():
    names = {REQUEUED, REQUEUE_FILE, JOB_SCRIPT, SHOW_TRACEBACK}
    found = {path: set(re.findall(r"FRAMEWORK_[A-Z_]+", path.read_text())) for path in ROOT.rglob("*.py")}
    assert {str(path.relative_to(ROOT)): texts for path, texts in found.items() if texts} == {
        "environment_variables.py": names
    }
