"""How an attempt begins: afresh, or on from what is there, with which configuration. Changes nothing."""

import dataclasses
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from framework.config.parse import from_container, resolve
from framework.config.schema import SHAPE, Config
from framework.errors import CheckpointError, ConfigError, ResumeRefusedError
from framework.loading import uncollected
from framework.resume import report
from framework.resume.code import code_digests
from framework.resume.compare import INEXACT, code_changes, parsed, run_changes, torch_note, version_changes
from framework.resume.diff import ABSENT, Change, differences, is_whole_node
from framework.resume.nodes import explain_nodes
from framework.resume.origin import Origins, override_of, own_config_dirs
from framework.resume.pinned import newest_generation, run_record
from framework.resume.policy import explain, judge
from framework.resume.position import position
from framework.resume.refusal import describe
from framework.resume.requeue import is_requeued
from framework.resume.settle import settle
from framework.resume.simulations import check_simulations
from framework.rundir.directory import RunDirectory, RunRecord, source_of
from framework.rundir.metrics import saved_progress
from framework.runtime.job import job_id, start_number
from framework.versions import versions

log = logging.getLogger(__name__)


@dataclass
class Plan:
    """What an attempt goes on with."""

    config: Config
    pinned: dict[str, Any]  # what `config.yaml` of a new run holds
    record: RunRecord  # of the run as this attempt takes it on
    overrides: list[str]
    config_dirs: list[str] = field(default_factory=list)  # of the user's own
    source: RunDirectory | None = None  # the run to go on with; None for a new one
    old: RunRecord | None = None  # of that run
    requeued: bool = False
    seen: tuple[int, str] = (0, "")  # the directory's state when it was planned
    title: str = ""
    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def refusal(self) -> ResumeRefusedError | None:
        """The error that names each change that breaks the run, and what to type instead."""
        refused = [change for change in self.changes if change.verdict == "refused"]
        if not refused or self.source is None or self.old is None:
            return None
        return ResumeRefusedError(describe(self.source.path, refused, self.old, self.overrides))

    def open(self, directory: RunDirectory) -> None:
        """Prepare the run directory, which is this process's by now; refused if it was another's since the plan.

        Of a job requeued from a node that was lost to Slurm, the attempt before may have gone on and saved meanwhile.
        """
        now = _state_of(directory)
        if now != self.seen and not (self.requeued and now[0] == self.seen[0]):
            raise ResumeRefusedError(f"{directory.path}: another process has been at work here meanwhile; start again")
        config, first = self.config, not self.requeued
        origin = Path(config.resume_from) if config.resume_from and first else None
        record = dataclasses.replace(self.record, config=self.pinned)
        directory.open(record, origin, overwrite=config.overwrite and first, pinned=self.requeued)

    def facts(self, device: str) -> dict[str, Any]:
        """Return what `attempts/NNN.json` records of the plan; warn where another kind of device takes over."""
        before = self.old.attempts[-1].get("device", device) if self.old and self.old.attempts else device
        if before != device:
            log.warning("⚠ device %s → %s: %s", before, device, INEXACT)
        return {
            "overrides": self.overrides,
            "config_dirs": self.config_dirs,
            "requeued": self.requeued,
            "device": device,
            "job_id": job_id(),
            "start_number": start_number(),
            **{name: getattr(self.record, name) for name in ("config", "code", "versions")},
            "resume_diff": report.records(self.changes),
        }


def plan_attempt(directory: RunDirectory, composed: DictConfig, hydra: Any) -> Plan:
    """Plan an attempt at the run in `directory` with what was composed; `hydra` is Hydra's part of that.

    What a resume changes is logged. Raises `ResumeRefusedError` where going on would overwrite
    work or break the run, before anything of it is built.
    """
    settle(directory.path)
    seen, attempts = _state_of(directory), directory.attempts()
    if attempts and is_requeued(attempts[-1]):
        plan = _requeued(directory, composed)
    else:
        plan = plan_resume(directory, composed, hydra)
    plan.seen, plan.config_dirs = seen, own_config_dirs(hydra)
    if plan.source:
        log.info(report.text(plan.title, plan.changes, plan.notes, shutil.get_terminal_size((120, 24)).columns))
    if plan.refusal:
        raise plan.refusal
    return plan


def _state_of(directory: RunDirectory) -> tuple[int, str]:
    newest = newest_generation(directory)
    return len(directory.attempts()), newest.name if newest else ""


def plan_resume(directory: RunDirectory, composed: DictConfig, hydra: Any) -> Plan:
    """Plan an attempt that was not requeued, and judge what it changes."""
    container = resolve(composed)
    config = from_container(container)
    overrides = list(hydra.overrides.task)
    record = _record(container, config)
    source, generation = _source(directory, config)
    if source is None:
        return Plan(config, container, record, overrides)
    old = run_record(source, generation if source is not directory and _names_checkpoint(config) else None)
    plan = Plan(config, container, record, overrides, source=source, old=old)
    plan.changes = run_changes(source, old, record, config.resume_allow)
    unresolved: Any = OmegaConf.to_container(composed, resolve=False)
    progress = saved_progress(generation)
    came_or_went = any(is_whole_node(change.path) for change in plan.changes)
    hints = explain_nodes(plan.changes, parsed(source, old.config), record.config) if came_or_went else []
    epochs = {node: p["epoch"] for node, p in progress.items()}
    explain(plan.changes, epochs, unresolved)
    check_simulations(plan.changes, epochs, config)
    origins = Origins(hydra)
    for change in plan.changes:
        change.old_origin = "" if change.old is ABSENT else _origin_of_old(old, change)
        change.new_origin = "" if change.new is ABSENT else origins.of(change.path)
    plan.title = (
        f"↻ Resuming {source.path}{position(source, old, progress)}{'' if plan.changes else ', nothing changed'}"
    )
    plan.notes = [*hints, *torch_note(old, record)]
    _add_tensors(plan, generation)
    return plan


def _requeued(directory: RunDirectory, composed: DictConfig) -> Plan:
    """Plan to go on with the config of the last attempt, whatever has been edited since, and say what is ignored."""
    old = run_record(directory)
    pinned = parsed(directory, old.config)
    config = dataclasses.replace(from_container(pinned), resume=True)
    record = _record(pinned, config)
    overrides = old.attempts[-1]["overrides"]
    plan = Plan(config, pinned, record, overrides, source=directory, old=old, requeued=True)
    try:
        edits = differences(pinned, dataclasses.asdict(from_container(resolve(composed))))
    except ConfigError as error:
        plan.notes.append(f"the files as they are now would not run ({error}); ignored")
        edits = []
    for change in edits:
        change.verdict = "ignored"
    changed = code_changes(old, record)
    for change in changed:
        change.reason = "⚠ its code has changed, and a requeued job goes on all the same"
    versions_changed = version_changes(old, record)
    judge(versions_changed, config.resume_allow)
    plan.changes = [*versions_changed, *changed, *edits]
    where = position(directory, old, saved_progress(newest_generation(directory))) if directory.holds_work() else ""
    plan.title = f"↻ Resuming {directory.path}{where}: requeued, with the config that it had"
    plan.notes += torch_note(old, record)
    return plan


def _source(directory: RunDirectory, config: Config) -> tuple[RunDirectory | None, Path | None]:
    """Return the run to go on with and its checkpoint, None for a new one.

    Raises where that would overwrite work or is impossible.
    """
    if config.resume_from is not None:
        path = Path(config.resume_from)
        source, generation = source_of(path)
        if not os.path.isdir(path) or not source.holds_work():  # noqa: PTH112  # the other one raises for a long name
            raise CheckpointError(f"resume_from={path}: holds no run")
        if source.path.resolve() == directory.path.resolve():
            hint = "set name=..." if generation else "use +resume=true, or set name=..."
            raise ConfigError(f"resume_from={path}: lies in the run directory itself; {hint}")
        if config.overwrite or not directory.holds_work():
            return source, generation or newest_generation(source)
        if directory.began_with(path):
            return directory, newest_generation(directory)
        if not directory.is_copy_of(path):  # or else copying it was interrupted
            raise ResumeRefusedError(
                f"{directory.path} already holds a run that did not begin with {path}. Go on with it: +resume=true "
                "· start another: name=... · move it aside and begin afresh: overwrite=true"
            )
        return source, generation or newest_generation(source)
    if config.overwrite:
        return None, None
    if not directory.holds_work():
        if config.resume and not directory.config_path.exists():
            raise CheckpointError(f"{directory.path}: nothing to resume here; start without resume=true")
        return None, None
    if not config.resume:
        raise ResumeRefusedError(
            f"{directory.path} already holds a run. Go on with it: +resume=true · start another: name=... · "
            "move it aside and start afresh: overwrite=true"
        )
    return directory, newest_generation(directory)


def _names_checkpoint(config: Config) -> bool:
    return config.resume_from is not None and source_of(Path(config.resume_from))[1] is not None


def _record(container: Mapping[str, Any], config: Config) -> RunRecord:
    return RunRecord(dataclasses.asdict(config), code_digests(container), versions(), [])


def _origin_of_old(old: RunRecord, change: Change) -> str:
    for number in range(len(old.attempts), 0, -1):
        if override := override_of(old.attempts[number - 1].get("overrides", []), change.path):
            return f"{override} in attempt {number}"
    return "config.yaml"


def _add_tensors(plan: Plan, generation: Path | None) -> None:
    """Attach to the last change of shape which weights do not fit; without torch where no shape changes."""
    shapes = [change for change in plan.changes if change.kind == SHAPE]
    if not shapes or generation is None or plan.source is None:
        return
    try:
        with uncollected():  # some networks make torch load more of itself
            from framework.resume.tensors import changed_tensors

            shapes[-1].tensors = changed_tensors(plan.config, generation, plan.source.simulations_dir)
    except Exception as error:  # what cannot be built is refused all the same
        plan.notes.append(f"(tensors not compared: {' '.join(str(error).split())[:200]})")
