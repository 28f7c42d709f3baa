"""The phases of a run, from the composed configuration to the report: simulate, train, sample, report."""

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from framework.checkpoint import CheckpointStore, Generation
from framework.config.target import build_part
from framework.estimators.compiled import keep_compiled_in
from framework.inference.evaluate import Evaluation
from framework.run_setup import RunSetup
from framework.rundir.attempts import AttemptFile
from framework.rundir.directory import RunDirectory
from framework.rundir.run_record import CONFIG_FILE, CheckpointInfo
from framework.rundir.timestamps import now
from framework.runtime import DistributedContext, Guard, Stopped, StopReason, check_signal_delivery, process_start
from framework.simulation import (
    SimulationStore,
    changed_nodes,
    import_simulations,
    run_simulations,
    set_aside_store,
)
from framework.tracking import Console, Tracker
from framework.training.node_training import NodeTraining

log = logging.getLogger(__name__)


class Run:
    """The phases of a run; each goes on from what the run directory already holds.

    `attempt` records what happens, `metadata` are saved with each checkpoint, `check_owner` ends the process if the
    directory is another's by now, and `results_of` is the checkpoint that samples and report of these settings are of.
    """

    def __init__(
        self,
        setup: RunSetup,
        directory: RunDirectory,
        guard: Guard,
        distributed: DistributedContext,
        attempt: AttemptFile,
        metadata: Mapping[str, Any],
        check_owner: Callable[[], None],
        results_of: str | None,
    ) -> None:
        self.setup, self.config, self.graph, runtime = setup, setup.config, setup.graph, setup.config.runtime
        self.directory, self.guard, self.distributed, self.attempt = directory, guard, distributed, attempt
        self._metadata, self._results_of = metadata, results_of
        keep, compress, constant = runtime.keep, runtime.compress, {CONFIG_FILE: dataclasses.asdict(self.config)}
        self.checkpoints = CheckpointStore(directory.checkpoints_dir, keep, compress, constant, check_owner)
        self.console = Console()
        self._compiled_dir = directory.path.resolve() / "compile_cache"
        self._elapsed_before = 0.0  # in earlier attempts
        self._simulations_before: Path | None = None  # those of before the graph got another node

    def go(self) -> StopReason | None:
        """Go through all phases and record them; return why the attempt ended early, or None if the run is complete."""
        log.info("Run %s on %s\n\n%s\n", self.directory.path, self.setup.device, self.graph.describe())
        if not self.graph.is_observed:
            log.info("No observation: the posterior is trained and checked, and sampled later")
        log.info(self.setup.budget)
        if problem := check_signal_delivery():
            log.warning("⚠ %s", problem)
        try:
            return self._go()
        except Stopped as stop:
            phase, where = self.attempt.record.phase, self.directory.path
            log.warning("⚠ %s while %s — what is done is kept in %s", stop.reason.word, phase, where)
            return stop.reason

    def _go(self) -> StopReason | None:
        self._begin("starting")
        self.prepare()
        with ExitStack() as stack:  # trackers are told of the report too
            trackers = [stack.enter_context(closing(tracker)) for tracker in self._trackers()]
            self._begin("simulating")
            self.simulate()
            self._begin("training")
            before = self.checkpoints.latest()
            self._elapsed_before = CheckpointInfo.of(before).elapsed_seconds if before else 0.0
            self._warn_of_scratch(before)
            reason, newest = self.train(trackers, before)
            if reason:
                return reason
            assert newest is not None, "training ends with a checkpoint"
            if before and before.path == newest.path and self._results_of == newest.path.name:
                log.info("%s has finished already", self.directory.path)
                return None
            self._begin("sampling and reporting")
            parts = (self.directory, newest, self.graph, self.simulations, self.setup.device, self.guard.check)
            Evaluation(self.config, self.setup.settings, *parts).run(self.console)
            self.attempt.made_results_of(newest.path.name)
        return None

    def _begin(self, phase: str) -> None:
        self.guard.check()
        self.attempt.begin(phase)

    def prepare(self) -> None:
        """Open the store, and keep with the run what it was given; `check` comes first."""
        stored_in, needed = self.directory.simulations_dir, self.graph.training_nodes
        before = self._simulations_before = set_aside_store(stored_in, needed, self.setup.num_simulations)
        if any(settings.loop.compile for settings in self.setup.settings.values()):
            keep_compiled_in(self._compiled_dir)
        nodes = self.graph.nodes.values()
        self.directory.write_arrays(
            observed={n.name: n.observed for n in nodes if n.observed is not None and n.is_drawn},
            truth={n.name: n.truth for n in nodes if n.truth is not None},
        )
        seed = self.config.seed
        if begun := next((d for d in (stored_in, before) if d and SimulationStore.exists(d)), None):
            seed = SimulationStore.open(begun).seed  # what was begun goes on with its own, if the run's has changed
        self.simulations = SimulationStore(stored_in, seed, self.setup.shapes)

    def simulate(self) -> None:
        """Fill the simulation store, from the simulator or from a file."""
        config, store = self.config.simulation, self.simulations
        if config.from_file is not None:
            path, limit = Path(config.from_file), config.max_invalid_fraction
            import_simulations(path, self.graph, store, config.num_simulations, limit)
        else:
            total, seed, limit = config.num_simulations, store.seed, config.max_invalid_fraction
            done = total - sum(stop - start for start, stop in store.missing(total))

            def show(done: int, invalid: int) -> None:
                self.console.update(done, f"{invalid} invalid" if invalid else "")
                self.guard.check()

            with self.console.phase("simulating", total, done):
                run_simulations(
                    self.setup.build_graph,
                    store,
                    total,
                    seed,
                    config.workers,
                    limit,
                    show,
                    lambda: self.guard.num_signals,
                )
        if self._simulations_before and (names := changed_nodes(self._simulations_before, store)):
            log.warning("⚠ %s came out differently this time: what was trained on them goes on with others", names)
        valid, invalid = store.counts()
        log.info("%d simulations%s", valid, f", {invalid} more were invalid and are left out" if invalid else "")

    def train(
        self, trackers: Sequence[Tracker], newest: Generation | None
    ) -> tuple[StopReason | None, Generation | None]:
        """Train every node's estimator on from the newest checkpoint, in inference order.

        Return why training stopped early, if it did, and the checkpoint that is the newest then.
        """
        for node, spec in self.setup.specs.items():
            settings, seed = self.setup.settings[node], self.config.seed
            parts = (
                self.setup.device,
                self.checkpoints,
                self.guard,
                self.metadata,
                self.distributed,
                self._compiled_dir,
            )
            training = NodeTraining(spec, settings, seed, *parts)
            simulations = self.simulations.load([node, *spec.evidence_shapes])
            _, reason, newest = training.run(simulations, trackers, self.console, newest)
            if reason:
                return reason, newest
        return None, newest

    def metadata(self) -> dict[str, Any]:
        """Return what every checkpoint tells of the run and the moment; the wall time is that of all attempts."""
        elapsed = self._elapsed_before + time.time() - process_start()
        return {**self._metadata, "saved_at": now(), "elapsed_seconds": elapsed}

    def _warn_of_scratch(self, newest: Generation | None) -> None:
        if self.config.resume or self.config.resume_from:
            trained = newest.texts("nodes") if newest else []
            if new := [name for name in self.setup.specs if name not in trained]:
                log.warning("training from scratch: %s", ", ".join(new))

    def _trackers(self) -> list[Tracker]:
        return [
            build_part(Tracker, block, f"tracking.{name}", run_dir=self.directory.path)  # type: ignore[type-abstract]
            for name, block in self.config.tracking.items()
        ]
