"""The plan of an attempt: new or resumed, and with which configuration. Planning changes no files."""

import dataclasses
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from framework.checkpoint.manifest import Generation, generation_paths, newest_generation
from framework.config.overrides import last_to_set
from framework.config.parse import from_container, resolve
from framework.config.schema import SHAPE, Config
from framework.config.trust import check_recorded
from framework.errors import CheckpointError, ConfigError, ResumeRefusedError
from framework.imports import gc_frozen
from framework.resume import diff_format
from framework.resume.code import code_digests
from framework.resume.compare import code_changes, parsed, run_changes, torch_note, version_changes
from framework.resume.config_sources import ConfigSources, own_config_dirs
from framework.resume.differences import ABSENT, Change, differences, is_whole_node
from framework.resume.node_changes import explain_nodes
from framework.resume.position import position
from framework.resume.refusal import describe
from framework.resume.restarted import is_requeued
from framework.resume.simulations import check_simulations
from framework.resume.source import find_source
from framework.resume.verdicts import explain, judge
from framework.rundir.attempts import AttemptRecord
from framework.rundir.directory import RunDirectory
from framework.rundir.metrics import saved_progress
from framework.rundir.run_record import RunRecord
from framework.runtime.schedulers import job_id, start_number
from framework.versions import git_commit, versions

log = logging.getLogger(__name__)


@dataclass
class Plan:
    """The configuration of an attempt and the run that it resumes, if any."""

    config: Config
    recorded: dict[str, Any]  # content of a new run's `config.yaml`
    record: RunRecord  # of the run in this attempt
    overrides: list[str]
    config_dirs: list[str] = field(default_factory=list)  # the user's
    source: RunDirectory | None = None  # the run to resume; None for a new one
    old: RunRecord | None = None  # record of that run
    requeued: bool = False
    planned_state: tuple[list[int], str] = field(default_factory=lambda: ([], ""))  # of the directory, when planned
    title: str = ""
    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def refusal(self) -> ResumeRefusedError | None:
        """The error that lists each incompatible change and what to type instead, or None."""
        refused = [change for change in self.changes if change.verdict == "refused"]
        if not refused or self.source is None or self.old is None:
            return None
        return ResumeRefusedError(describe(self.source.path, refused, self.old, self.overrides, self.config_dirs))

    @property
    def begin_arguments(self) -> dict[str, Any]:
        """The arguments of `begin_run`; a requeued job keeps the directory that its first attempt has prepared."""
        config = self.config
        is_first = not self.requeued
        return {
            "record": dataclasses.replace(self.record, config=self.recorded),
            "resume_from": Path(config.resume_from) if config.resume_from and is_first else None,
            "overwrite": config.overwrite and is_first,
            "requeued": self.requeued,
        }

    def attempt_record(self, device: str, num_epochs: Mapping[str, int], num_processes: int) -> AttemptRecord:
        """Return the attempt's record at its start."""
        return AttemptRecord(
            overrides=self.overrides,
            config_dirs=self.config_dirs,
            requeued=self.requeued,
            job_id=job_id(),
            start_number=start_number(),
            device=device,
            num_processes=num_processes,
            num_epochs=dict(num_epochs),
            versions=self.record.versions,
            git_commit=git_commit(),
            code=self.record.code,
            config=self.record.config,
            resume_diff=diff_format.records(self.changes),
        )

    def check_unchanged(self, directory: RunDirectory) -> None:
        """Raise `ResumeRefusedError` if another process has changed the run directory between planning and locking it.

        If a job is requeued because Slurm lost its node, the previous attempt may have continued to save meanwhile.
        """
        now = _state_of(directory)
        if now != self.planned_state and not (self.requeued and now[0] == self.planned_state[0]):
            raise ResumeRefusedError(f"{directory.path}: changed by another process in the meantime; start again")


def plan_attempt(directory: RunDirectory, composed: DictConfig, hydra: Any) -> Plan:
    """Plan an attempt at the run in `directory` with the composed config; `hydra` is Hydra's part of it.

    Changes made by a resume are logged. Raises `ResumeRefusedError` if the attempt would overwrite
    work or break the run, before any of its objects is built.
    """
    state = _state_of(directory)
    attempts = directory.attempts()
    if is_requeued(directory.path, attempts):
        plan = _requeued(directory, composed)
    else:
        plan = plan_resume(directory, composed, hydra)
    plan.planned_state = state
    plan.config_dirs = own_config_dirs(hydra)
    if plan.source:
        log.info(diff_format.text(plan.title, plan.changes, plan.notes, shutil.get_terminal_size((120, 24)).columns))
    if plan.refusal:
        raise plan.refusal
    return plan


def _state_of(directory: RunDirectory) -> tuple[list[int], str]:
    paths = generation_paths(directory.checkpoints_dir)
    return directory.attempts().numbers, paths[-1].name if paths else ""


def plan_resume(
    directory: RunDirectory,
    composed: DictConfig,
    hydra: Any,
    check: Callable[[Mapping[str, Any]], None] = lambda config: None,
) -> Plan:
    """Plan an attempt that is not a requeue, and judge its changes; `check` is called before anything is built."""
    container = resolve(composed)
    config = from_container(container)
    overrides = list(hydra.overrides.task)
    record = _record(container, config)
    found = find_source(directory, config)
    if found is None:
        return Plan(config, container, record, overrides)
    source = found.directory
    generation = found.generation
    old = found.record
    plan = Plan(config, container, record, overrides, source=source, old=old)
    plan.changes = run_changes(source, old, record, config.resume_allow)
    unresolved: Any = OmegaConf.to_container(composed, resolve=False)
    progress = saved_progress(generation)
    nodes_added_or_removed = any(is_whole_node(change.path) for change in plan.changes)
    hints = explain_nodes(plan.changes, parsed(source, old.config), record.config) if nodes_added_or_removed else []
    epochs = {node: p["epoch"] for node, p in progress.items()}
    explain(plan.changes, epochs, unresolved)
    check_simulations(plan.changes, epochs, config)
    origins = ConfigSources(hydra)
    for change in plan.changes:
        change.old_source = "" if change.old is ABSENT else _source_of_old(old, change)
        change.new_source = "" if change.new is ABSENT else origins.of(change.path)
    plan.title = (
        f"↻ Resuming {source.path}{position(source, old, progress)}{'' if plan.changes else ', nothing changed'}"
    )
    plan.notes = [*hints, *_lost_record_notes(old), *torch_note(old, record)]
    _add_tensors(plan, generation, check)
    return plan


def _requeued(directory: RunDirectory, composed: DictConfig) -> Plan:
    """Plan to resume with the last attempt's config; note later edits as ignored."""
    old = directory.record()
    if old.doubt:
        raise CheckpointError(
            f"{old.doubt}: no checkpoint has this attempt's config, so its job cannot be resumed "
            "automatically; resume it yourself, with +resume=true and its original overrides"
        )
    check_recorded(old.config, composed, directory.path)
    recorded = parsed(directory, old.config)
    config = dataclasses.replace(from_container(recorded), resume=True)
    record = _record(recorded, config)
    overrides = old.attempts[-1].overrides if old.attempts else []
    plan = Plan(config, recorded, record, overrides, source=directory, old=old, requeued=True)
    try:
        edits = differences(recorded, dataclasses.asdict(from_container(resolve(composed))))
    except ConfigError as error:
        plan.notes.append(f"the current configuration files are invalid ({error}); ignored")
        edits = []
    for change in edits:
        change.verdict = "ignored"
    changed = code_changes(old, record)
    for change in changed:
        change.reason = "⚠ its code has changed; a requeued job continues nevertheless"
    versions_changed = version_changes(old, record)
    judge(versions_changed, config.resume_allow)
    plan.changes = [*versions_changed, *changed, *edits]
    newest = newest_generation(directory.checkpoints_dir)
    where = position(directory, old, saved_progress(newest)) if directory.holds_work() else ""
    plan.title = f"↻ Resuming {directory.path}{where}: requeued, with its previous config"
    plan.notes += [*_lost_record_notes(old), *torch_note(old, record)]
    return plan


def _record(container: Mapping[str, Any], config: Config) -> RunRecord:
    return RunRecord(dataclasses.asdict(config), code_digests(container), versions(), [])


def _lost_record_notes(old: RunRecord) -> list[str]:
    """Return notes about records that could not be read."""
    doubt = "the last attempt's config is unknown: compared with the config before it"
    return [f"⚠ {note}" for note in [*old.notes, *([doubt] if old.doubt else [])]]


def _source_of_old(old: RunRecord, change: Change) -> str:
    for number in range(len(old.attempts), 0, -1):
        if override := last_to_set(old.attempts[number - 1].overrides, change.path):
            return f"{override} in attempt {number}"
    return "config.yaml"


def _add_tensors(plan: Plan, generation: Generation | None, check: Callable[[Mapping[str, Any]], None]) -> None:
    """Attach the incompatible weights to the last change of shape; does not import torch if no shape changes."""
    shapes = [change for change in plan.changes if change.kind == SHAPE]
    if not shapes or generation is None or plan.source is None:
        return
    try:
        with gc_frozen():  # some networks make torch import more of its modules
            check(plan.record.config)
            from framework.resume.tensors import changed_tensors

            shapes[-1].tensors = changed_tensors(plan.config, generation, plan.source.simulations_dir)
    except Exception as error:  # the change is refused even if nothing can be built
        plan.notes.append(f"(tensors not compared: {' '.join(str(error).split())[:400]})")
