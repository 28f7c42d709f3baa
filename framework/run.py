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
    """The phases of a run; each resumes from what the run directory already contains.

    `attempt` records the progress, `metadata` is saved with each checkpoint, `check_owner` exits the process if
    another one has taken the directory over, and `results_of` is the checkpoint from which samples and report have
    been made with these settings.
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
        self.setup = setup
        self.config = setup.config
        self.graph = setup.graph
        self.directory = directory
        self.guard = guard
        self.distributed = distributed
        self.attempt = attempt
        self._metadata = metadata
        self._results_of = results_of
        self.checkpoints = CheckpointStore(
            directory.checkpoints_dir,
            keep=self.config.runtime.keep,
            compress=self.config.runtime.compress,
            constant={CONFIG_FILE: dataclasses.asdict(self.config)},
            check_owner=check_owner,
        )
        self.console = Console()
        self._compiled_dir = directory.path.resolve() / "compile_cache"
        self._elapsed_before = 0.0  # duration of earlier attempts in seconds
        self._simulations_before: Path | None = None  # directory of the simulations before the graph got another node

    def execute(self) -> StopReason | None:
        """Run and record all phases; return why the attempt stopped early, or None if the run is complete."""
        log.info("Run %s on %s\n\n%s\n", self.directory.path, self.setup.device, self.graph.describe())
        if not self.graph.is_observed:
            log.info("No observation: the posterior is trained and checked, but not sampled yet")
        log.info(self.setup.budget)
        if problem := check_signal_delivery():
            log.warning("⚠ %s", problem)
        try:
            return self._execute()
        except Stopped as stop:
            phase = self.attempt.record.phase
            log.warning("⚠ %s while %s — completed work is kept in %s", stop.reason.word, phase, self.directory.path)
            return stop.reason

    def _execute(self) -> StopReason | None:
        self._begin("starting")
        self.prepare()
        with ExitStack() as stack:  # trackers stay open until the report is written
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
                log.info("%s has already finished", self.directory.path)
                return None
            self._begin("sampling and reporting")
            evaluation = Evaluation(
                config=self.config,
                settings=self.setup.settings,
                directory=self.directory,
                generation=newest,
                graph=self.graph,
                simulations=self.simulations,
                device=self.setup.device,
                check=self.guard.check,
            )
            evaluation.run(self.console)
            self.attempt.record_results(newest.path.name)
        return None

    def _begin(self, phase: str) -> None:
        self.guard.check()
        self.attempt.begin(phase)

    def prepare(self) -> None:
        """Open the simulation store, and save the observations and true values with the run."""
        stored_in = self.directory.simulations_dir
        needed = self.graph.training_nodes
        before = self._simulations_before = set_aside_store(stored_in, needed, self.setup.num_simulations)
        if any(settings.loop.compile for settings in self.setup.settings.values()):
            keep_compiled_in(self._compiled_dir)
        nodes = self.graph.nodes.values()
        self.directory.write_arrays(
            observed={n.name: n.observed for n in nodes if n.observed is not None and n.is_drawn},
            truth={n.name: n.truth for n in nodes if n.truth is not None},
        )
        seed = self.config.seed
        if existing := next((d for d in (stored_in, before) if d and SimulationStore.exists(d)), None):
            seed = SimulationStore.open(
                existing
            ).seed  # existing simulations keep their seed, even if the run's has changed
        self.simulations = SimulationStore(stored_in, seed, self.setup.shapes)

    def simulate(self) -> None:
        """Fill the simulation store, from the simulator or from a file."""
        config = self.config.simulation
        store = self.simulations
        if config.from_file is not None:
            import_simulations(
                Path(config.from_file), self.graph, store, config.num_simulations, config.max_invalid_fraction
            )
        else:
            total = config.num_simulations
            done = total - sum(stop - start for start, stop in store.missing(total))

            def show(done: int, invalid: int) -> None:
                self.console.update(done, f"{invalid} invalid" if invalid else "")
                self.guard.check()

            with self.console.phase("simulating", total, done):
                run_simulations(
                    build=self.setup.build_graph,
                    store=store,
                    num_simulations=total,
                    seed=store.seed,
                    workers=config.workers,
                    max_invalid_fraction=config.max_invalid_fraction,
                    on_progress=show,
                    num_signals=lambda: self.guard.num_signals,
                )
        if self._simulations_before and (names := changed_nodes(self._simulations_before, store)):
            log.warning("⚠ the simulations of %s differ from before: training continues on the new ones", names)
        valid, invalid = store.counts()
        log.info("%d simulations%s", valid, f", {invalid} more were invalid and dropped" if invalid else "")

    def train(
        self, trackers: Sequence[Tracker], newest: Generation | None
    ) -> tuple[StopReason | None, Generation | None]:
        """Train every node's estimator, from the newest checkpoint, in inference order.

        Return why training stopped early, or None, and the checkpoint that is then the newest.
        """
        for node, spec in self.setup.specs.items():
            training = NodeTraining(
                spec=spec,
                settings=self.setup.settings[node],
                seed=self.config.seed,
                device=self.setup.device,
                checkpoints=self.checkpoints,
                guard=self.guard,
                metadata=self.metadata,
                distributed=self.distributed,
                compiled_dir=self._compiled_dir,
            )
            simulations = self.simulations.load([node, *spec.evidence_shapes])
            _, reason, newest = training.run(simulations, trackers, self.console, newest)
            if reason:
                return reason, newest
        return None, newest

    def metadata(self) -> dict[str, Any]:
        """Return each checkpoint's metadata on the run and the time; `elapsed_seconds` includes all attempts."""
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
