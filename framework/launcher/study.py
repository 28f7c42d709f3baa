"""A search by Optuna whose trials are the jobs of a sweep; the same command again resumes its study.

hydra-optuna-sweeper 1.3 is for Optuna 2 alone, which keeps studies in databases only, and its successor for Hydra 1.4.
Both forget the trials that were under way when they were killed, and end at the first one that fails.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from hydra.core.utils import JobReturn, JobStatus
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from framework.compat.hydra import error_of
from framework.config.target import build
from framework.errors import CheckpointError, ConfigError, DamagedError, SweepError
from framework.files import make_directory, replace_file
from framework.launcher.launcher_config import StudyConfig
from framework.launcher.space import Space
from framework.records import parse_json, read_bytes
from framework.rundir.run_status import RunState, read_run
from framework.runtime.lease import Lease

log = logging.getLogger(__name__)

_JOURNAL = "study.journal"
# Attributes of the study: how many trials had ended before the last command, and how many end before it adds more.
_BEFORE, _ASKED = "num_before", "num_asked"


@dataclass(frozen=True)
class _Trial:
    number: int
    values: dict[str, Any]


class Study:
    """The trials of all starts so far, in `study.journal` of the sweep's directory: one file, which is safe on NFS."""

    def __init__(self, config: StudyConfig, directory: Path, launch: Callable[..., Sequence[JobReturn]]) -> None:
        self._config = config
        self._directory = directory
        self._launch = launch
        self._sampler = build(config.sampler, "hydra.sweeper.sampler")
        self._is_exhausted = False

    def run(self, space: Space) -> None:
        """Run trials until as many have ended as were asked for; raises `SweepError` if some have failed.

        It also raises as soon as some have stopped that can be resumed; they are left for the next start.
        """
        make_directory(self._directory)
        with Lease(self._directory / "lease"):
            study = self._open()
            begun = self._begun(study, space)
            num_to_go = self._num_to_go(study, len(begun))
            num_before = len(study.trials) - len(begun)
            num_failed = 0
            for done in range(0, num_to_go, self._config.n_jobs):
                size = min(self._config.n_jobs, num_to_go - done)
                trials = [begun.pop(0) if begun else self._ask(study, space) for _ in range(size)]
                returned = self._launch([space.overrides(trial.values) for trial in trials], num_before + done)
                num_failed += self._tell(study, trials, returned)
                if self._is_exhausted:
                    log.info("The sampler has tried everything")
                    break
            _show_best(study)
        if num_failed:
            table = self._directory / "sweep.csv"
            raise SweepError(f"{num_failed} of {num_to_go} trials failed; {table} has the reasons", exit_code=1)

    def _open(self) -> optuna.Study:
        optuna.logging.disable_default_handler()  # the sweep reports the trials itself
        path = self._directory / _JOURNAL
        _repair(path)
        try:
            storage = JournalStorage(JournalFileBackend(str(path)))
            study = optuna.create_study(storage=storage, sampler=self._sampler, study_name="study", load_if_exists=True)
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError) as error:
            raise _damaged(path, f"{type(error).__name__} {error}") from error
        if study.trials:
            study.sampler.reseed_rng()  # a seeded one would repeat its first proposals
        return study

    def _begun(self, study: optuna.Study, space: Space) -> list[_Trial]:
        """Return the trials that were under way when an earlier start ended: their runs are resumed."""
        begun = []
        for trial in study.get_trials(states=[TrialState.RUNNING]):
            if trial.distributions == space.distributions:
                begun.append(_Trial(trial.number, trial.params))
            else:  # of another search space, or killed before it had all of its values
                study.tell(trial.number, state=TrialState.FAIL)
                for name in (_BEFORE, _ASKED):  # it does not count as one of those asked for
                    study.set_user_attr(name, study.user_attrs.get(name, 0) + 1)
        return begun

    def _num_to_go(self, study: optuna.Study, num_begun: int) -> int:
        """Return how many trials are to end: `n_trials` more, or what is left of them after an interruption."""
        ended = sum(trial.state.is_finished() for trial in study.trials)
        before = study.user_attrs.get(_BEFORE, 0)
        asked = study.user_attrs.get(_ASKED, 0)
        if ended >= asked:
            before = ended
        else:
            log.info("Resuming the study: %d of its trials have ended, %d are under way", ended, num_begun)
        num_to_go = max(before + self._config.n_trials - ended, num_begun) or self._config.n_trials
        study.set_user_attr(_BEFORE, before)
        study.set_user_attr(_ASKED, ended + num_to_go)
        return num_to_go

    def _ask(self, study: optuna.Study, space: Space) -> _Trial:
        with _explained(self._directory / _JOURNAL):
            trial = study.ask(space.distributions)
        return _Trial(trial.number, trial.params)

    def _tell(self, study: optuna.Study, trials: Sequence[_Trial], returned: Sequence[JobReturn]) -> int:
        """Record how trials ended and return how many failed; without a finite loss they have, too."""
        errors = [error_of(r) for r in returned if r.status != JobStatus.COMPLETED]
        if errors:
            log.warning("⚠ %s", errors[0])  # it names all of them
        can_resume = [_can_resume(r) for r in returned]
        num_failed = 0
        for trial, ended, is_stopped in zip(trials, returned, can_resume, strict=True):
            value = ended.return_value if ended.status == JobStatus.COMPLETED else math.nan
            if not is_stopped:
                has_loss = math.isfinite(value)
                num_failed += not has_loss
                try:
                    if has_loss:
                        study.tell(trial.number, value)
                    else:
                        study.tell(trial.number, state=TrialState.FAIL)
                except RuntimeError:  # the result is stored; here a grid sampler would end Optuna's own loop
                    self._is_exhausted = True
        if any(can_resume):
            raise SweepError(f"{sum(can_resume)} trials have stopped: the same command resumes them", exit_code=99)
        return num_failed


def _can_resume(returned: JobReturn) -> bool:
    """Tell whether a job was stopped on purpose, or is under way; one that was killed has failed like any other."""
    if returned.status == JobStatus.COMPLETED:
        return False
    assert returned.hydra_cfg is not None
    status = read_run(Path(returned.hydra_cfg.hydra.runtime.output_dir))
    return status.is_held or status.state is RunState.STOPPED


def _show_best(study: optuna.Study) -> None:
    if completed := study.get_trials(states=[TrialState.COMPLETE]):
        best = study.best_trial
        set_to = " ".join(f"{key}={value}" for key, value in best.params.items())
        log.info("best of %d trials: %s (validation loss %.4f)", len(completed), set_to, best.value)


def _repair(journal: Path) -> None:
    """Remove a last line that a crash or a full disk has left unfinished: Optuna would not read what follows it.

    Raises `CheckpointError` where another line is damaged: trials are numbered by the lines, so none can be skipped.
    """
    try:
        content = read_bytes(journal, max_bytes=None)
    except FileNotFoundError:
        return
    lines = content.split(b"\n")
    for number, line in enumerate(lines[:-1], 1):
        try:
            operation = parse_json(journal, line)
        except DamagedError:
            operation = None
        if not isinstance(operation, dict) or type(operation.get("op_code")) is not int:
            raise _damaged(journal, f"line {number} of {len(lines) - 1}")
    if lines[-1]:
        replace_file(journal, content.removesuffix(lines[-1]))


def _damaged(journal: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{journal}: damaged ({what}); restore it, or start another study: name=...")


@contextmanager
def _explained(journal: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{journal}: its trials had other choices ({error}); choose another name=...") from error
