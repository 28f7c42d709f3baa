"""The phases of a run, from the composed configuration to the report: simulate, train, sample, report."""

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from framework.checkpoint import CheckpointStore, Generation
from framework.config.parse import graph_container, node_settings
from framework.config.schema import Config
from framework.config.target import build_part, locate
from framework.device import choose_device
from framework.estimators import spec_of
from framework.estimators.compiled import keep_compiled_in
from framework.graph import build_graph, check_shapes
from framework.inference.finish import Finish
from framework.rundir.attempts import CONFIG_FILE, Attempt, now
from framework.rundir.directory import RunDirectory
from framework.runtime import BudgetReader, Guard, Ranks, Stopped, StopReason, deaf, process_start
from framework.simulation import (
    SimulationStore,
    came_or_went,
    changed_nodes,
    event_shapes,
    import_simulations,
    imported_names,
    imported_shapes,
    run_simulations,
    set_aside,
)
from framework.tracking import Console, Tracker
from framework.training.check import check_training
from framework.training.node import NodeTraining

log = logging.getLogger(__name__)


class Run:
    """The phases of a run; each goes on from what the run directory already holds.

    `source` is the run that it goes on with, another one's directory until that is copied; None for a new run.
    """

    def __init__(
        self, config: Config, directory: RunDirectory, guard: Guard, ranks: Ranks, source: RunDirectory | None
    ) -> None:
        self.config, self.directory, self.guard, runtime = config, directory, guard, config.runtime
        self.ranks = ranks
        self._stored = source.simulations_dir if source else None
        self.device = choose_device(config.device, self.ranks.local_rank if self.ranks.size > 1 else None)
        self.build_graph = functools.partial(build_graph, graph_container(config), config.priors, self._presimulated())
        self.graph = self.build_graph()
        self.settings = {node.name: node_settings(config, node.name) for node in self.graph.inferred}
        constant = {CONFIG_FILE: dataclasses.asdict(config)}  # what this attempt trains with
        self.checkpoints = CheckpointStore(directory.checkpoints_dir, runtime.keep, runtime.compress, constant)
        self.console = Console()
        self._compiled_dir = directory.path.resolve() / "compile_cache"
        self._elapsed_before = 0.0  # in earlier attempts
        self._simulations_before: Path | None = None  # those of before the graph got another node
        self.doing = "starting"  # the phase under way
        self.attempt_facts: dict[str, Any] = {}  # what each checkpoint says of the code that wrote it
        self.check_owner: Callable[[], None] = lambda: None  # ends the process if the run is another's by now
        self.results_of: str | None = None  # the checkpoint that samples and report of these settings are of

    def go(self, attempt: Attempt) -> StopReason | None:
        """Go through all phases and record them; return why the attempt ended early, or None if the run is complete."""
        log.info("Run %s on %s\n\n%s\n", self.directory.path, self.device, self.graph.describe())
        if not self.graph.is_observed:
            log.info("No observation: the posterior is trained and checked, and sampled later")
        log.info(self._budget)
        if problem := deaf():
            log.warning("⚠ %s", problem)
        try:
            return self._go(attempt)
        except Stopped as stop:
            log.warning("⚠ %s while %s — what is done is kept in %s", stop.reason.word, self.doing, self.directory.path)
            return stop.reason

    def _go(self, attempt: Attempt) -> StopReason | None:
        self._begin(attempt, "starting")
        self.prepare()
        with ExitStack() as stack:  # trackers are told of the report too
            trackers = [stack.enter_context(closing(tracker)) for tracker in self._trackers()]
            self._begin(attempt, "simulating")
            self.simulate()
            self._begin(attempt, "training")
            before = self.checkpoints.latest()
            self._elapsed_before = before.manifest["run"]["elapsed_seconds"] if before else 0.0
            self._warn_of_scratch(before)
            if reason := self.train(trackers):
                return reason
            newest = self.checkpoints.latest()
            assert newest is not None, "training ends with a checkpoint"
            if before == newest and self.results_of == newest.path.name:
                log.info("%s has finished already", self.directory.path)
                return None
            self._begin(attempt, "sampling and reporting")
            parts = (self.directory, self.graph, self.simulations, self.device, self.guard.check)
            Finish(self.config, self.settings, *parts).go(self.console)
            attempt.record(results_of=newest.path.name)
        return None

    def _begin(self, attempt: Attempt, phase: str) -> None:
        self.guard.check()
        self.doing = phase
        attempt.begin(phase)

    def check(self) -> None:
        """Check everything that can be checked before the first simulation, and write nothing.

        The time runs from here on: shapes may have to be learned from a trial simulation.
        """
        self._budget = self.guard.limit(BudgetReader(self.config.runtime.wall_clock_budget))
        self._shapes = self._event_shapes()
        self.graph = check_shapes(self.graph, self._shapes)
        self.specs = {node.name: spec_of(self.config, node.name, self._shapes) for node in self.graph.inferred}
        for name, spec in self.specs.items():
            check_training(spec, self.settings[name], self.config.graph[name], self._num_simulations)
        for name, block in self.config.tracking.items():
            locate(block, f"tracking.{name}")

    def prepare(self) -> None:
        """Open the store, and keep with the run what it was given; `check` comes first."""
        stored_in, needed = self.directory.simulations_dir, self.graph.training_nodes
        before = self._simulations_before = set_aside(stored_in, needed, self._num_simulations)
        if any(settings.loop.compile for settings in self.settings.values()):
            keep_compiled_in(self._compiled_dir)
        nodes = self.graph.nodes.values()
        self.directory.write_arrays(
            observed={n.name: n.observed for n in nodes if n.observed is not None and n.is_drawn},
            truth={n.name: n.truth for n in nodes if n.truth is not None},
        )
        seed = self.config.seed
        if begun := next((d for d in (stored_in, before) if d and SimulationStore.exists(d)), None):
            seed = SimulationStore.open(begun).seed  # what was begun goes on with its own, if the run's has changed
        self.simulations = SimulationStore(stored_in, seed, self._shapes)

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
                    self.build_graph, store, total, seed, config.workers, limit, show, lambda: self.guard.num_signals
                )
        if self._simulations_before and (names := changed_nodes(self._simulations_before, store)):
            log.warning("⚠ %s came out differently this time: what was trained on them goes on with others", names)
        valid, invalid = store.counts()
        log.info("%d simulations%s", valid, f", {invalid} more were invalid and are left out" if invalid else "")

    def train(self, trackers: Sequence[Tracker]) -> StopReason | None:
        """Train every node's estimator, in inference order; return why training stopped early, if it did."""
        for node, spec in self.specs.items():
            settings, seed = self.settings[node], self.config.seed
            parts = (self.device, self.checkpoints, self.guard, self.facts, self.ranks, self._compiled_dir)
            training = NodeTraining(spec, settings, seed, *parts)
            simulations = self.simulations.load([node, *spec.evidence_shapes])
            _, reason = training.run(simulations, trackers, self.console)
            if reason:
                return reason
        return None

    def facts(self) -> dict[str, Any]:
        """Return what every checkpoint tells of the run and the moment; the wall time is that of all attempts."""
        self.check_owner()
        elapsed = self._elapsed_before + time.time() - process_start()
        return {**self.attempt_facts, "saved_at": now(), "elapsed_seconds": elapsed}

    def _warn_of_scratch(self, newest: Generation | None) -> None:
        if self.config.resume or self.config.resume_from:
            trained = newest.manifest["nodes"] if newest else []
            if new := [name for name in self.specs if name not in trained]:
                log.warning("training from scratch: %s", ", ".join(new))

    def _presimulated(self) -> list[str]:
        """Return the nodes whose simulations come from a file, or came from it in an earlier attempt."""
        from_file = self.config.simulation.from_file
        if from_file is None:
            return []
        nodes = {n for name, node in self.config.graph.items() if node.evidence for n in (name, *node.evidence)}
        if self._stored and SimulationStore.exists(self._stored):
            stored = SimulationStore.open(self._stored).event_shapes
            if nodes <= stored.keys():
                return list(stored)
        return imported_names(Path(from_file))

    def _event_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of training's nodes: of what is stored, of the file, or of a trial simulation."""
        stored = self._stored if self._stored and SimulationStore.exists(self._stored) else None
        if stored and not came_or_went(stored, self.graph.training_nodes, self._num_simulations):
            return SimulationStore.open(stored).event_shapes
        if self.config.simulation.from_file is not None:
            return imported_shapes(Path(self.config.simulation.from_file), self.graph)
        shapes = event_shapes(self.graph, self.config.seed)
        return {name: shapes[name] for name in self.graph.training_nodes}

    @property
    def _num_simulations(self) -> int | None:
        """The number of simulations to draw; None where they come from a file."""
        return None if self.config.simulation.from_file else self.config.simulation.num_simulations

    def _trackers(self) -> list[Tracker]:
        return [
            build_part(Tracker, block, f"tracking.{name}", run_dir=self.directory.path)  # type: ignore[type-abstract]
            for name, block in self.config.tracking.items()
        ]
