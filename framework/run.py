"""One attempt at a run, from the composed configuration to the report: simulate, train, sample, report."""

import functools
import logging
import sys
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from torch import Tensor

from framework.checkpoint import CheckpointStore
from framework.config.duration import format_duration
from framework.config.parse import from_container, graph_container, node_settings, resolve
from framework.config.schema import Config
from framework.config.target import build
from framework.device import choose_device
from framework.estimators import Estimator, EstimatorSpec
from framework.estimators.files import INIT_FILE, init_parameters
from framework.graph import build_graph, check_shapes
from framework.inference.finish import Finish
from framework.rng import seed_sequence, seeded
from framework.run_directory import RunDirectory
from framework.runtime import Guard, StopReason
from framework.simulation import SimulationStore, event_shapes, import_simulations, imported_shapes, run_simulations
from framework.tracking import Console, Tracker
from framework.training import Trainer, TrainingData
from framework.training.checkpoint import node_files, restore

log = logging.getLogger(__name__)


def run_training(composed: DictConfig) -> float | None:
    """Take the run in Hydra's run directory as far as it goes; return the sum of the nodes' best validation losses.

    Ends the process with the stop reason's exit code if it has to stop early.
    """
    container = resolve(composed)
    config = from_container(container)
    directory = RunDirectory(Path(HydraConfig.get().runtime.output_dir))
    run = Run(config, directory)  # first, since most mistakes in the config show here
    directory.open(container)
    results = {key: value for key, value in container.items() if key in ("inference", "graph")}
    run.has_results = directory.has_results(results)
    attempt = directory.start_attempt(list(HydraConfig.get().overrides.task), results)
    reason = "crashed"
    try:
        stopped = run.go()
        reason = stopped.name.lower() if stopped else "finished"
    finally:
        attempt.end(reason)
    if stopped:
        sys.exit(stopped.exit_code)
    return sum(run.best_losses.values())


class Run:
    """The phases of a run; each goes on from what the run directory already holds."""

    def __init__(self, config: Config, directory: RunDirectory) -> None:
        self.config, self.directory = config, directory
        self.device = choose_device(config.device)
        self.build_graph = functools.partial(build_graph, graph_container(config), config.priors)
        self.graph = self.build_graph()
        self.settings = {node.name: node_settings(config, node.name) for node in self.graph.inferred}
        self.checkpoints = CheckpointStore(directory.checkpoints_dir, keep=config.runtime.keep)
        self.console = Console()
        self.best_losses: dict[str, float] = {}
        self.has_results = False  # samples and report of these settings, from an earlier attempt

    def go(self) -> StopReason | None:
        """Go through all phases; return why the attempt stopped early, or None when the run is complete."""
        log.info("Run %s on %s\n\n%s\n", self.directory.path, self.device, self.graph.describe())
        self.simulate()
        runtime = self.config.runtime
        guard = Guard(runtime.wall_clock_budget, runtime.checkpoint_before_end, runtime.periodic_checkpoint_every)
        trackers = self._trackers()
        for node in self.graph.inferred:
            reason = self.train(node.name, guard, trackers)
            if reason:
                return reason
        for tracker in trackers:
            tracker.close()
        if self.has_results:
            log.info("%s has finished already; raise loop.num_epochs to train on", self.directory.path)
            return None
        Finish(self.config, self.settings, self.directory, self.graph, self.simulations, self.device).go(self.console)
        return None

    def simulate(self) -> None:
        """Fill the simulation store from the simulator, or from a file; observations are checked first."""
        config = self.config.simulation
        shapes = self._event_shapes()
        self.graph = check_shapes(self.graph, shapes)
        self.simulations = SimulationStore(self.directory.simulations_dir, self.config.seed, shapes)
        nodes = self.graph.nodes.values()
        self.directory.write_arrays(
            observed={n.name: n.observed for n in nodes if n.observed is not None and n.is_drawn},
            truth={n.name: n.truth for n in nodes if n.truth is not None},
        )
        if config.from_file is not None:
            import_simulations(Path(config.from_file), self.graph, self.simulations)
        else:
            done = config.num_simulations - sum(b - a for a, b in self.simulations.missing(config.num_simulations))
            with self.console.phase("simulating", config.num_simulations, done):
                run_simulations(
                    self.build_graph,
                    self.simulations,
                    config.num_simulations,
                    self.config.seed,
                    config.workers,
                    config.max_invalid_fraction,
                    lambda done, invalid: self.console.update(done, f"{invalid} invalid" if invalid else ""),
                )
        valid, invalid = self.simulations.counts()
        log.info("%d simulations%s", valid, f", {invalid} more were invalid and are left out" if invalid else "")

    def train(self, node: str, guard: Guard, trackers: list[Tracker]) -> StopReason | None:
        """Train one node's estimator, from its checkpoint if it has one; return why it stopped early, if it did."""
        newest = self.checkpoints.latest()
        resumed = newest if newest and node in newest.manifest["nodes"] else None
        with seeded(seed_sequence(self.config.seed, node, "init")):
            trainer, initial = self._trainer(node)
            if resumed:
                restore(trainer, resumed)
                initial = resumed.load(f"{node}/{INIT_FILE}")
                log.info("↻ Resuming %s from %s", node, self._position(trainer))
            for tracker in trackers:
                tracker.cut_back(node, trainer.progress.step)
            reason = self._fit(trainer, initial, guard, trackers)
        self.best_losses[node] = trainer.progress.best_loss
        return reason

    def _fit(self, trainer: Trainer, initial: dict, guard: Guard, trackers: list[Tracker]) -> StopReason | None:
        node, progress = trainer.node, trainer.progress

        def save() -> None:
            nodes = sorted({node, *(newest.manifest["nodes"] if (newest := self.checkpoints.latest()) else ())})
            self.checkpoints.commit(node_files(trainer, initial), {"nodes": nodes})

        def on_epoch(record: dict[str, float]) -> None:
            for tracker in trackers:
                tracker.log({"node": node, **record})
            self.console.epoch(record, progress.best_loss, progress.best_epoch, last=trainer.is_done())

        if progress.finished and trainer.is_done():
            return None
        self.has_results = False
        with guard, self.console.phase(f"training {node}", trainer.loop.num_epochs, progress.epoch):
            reason = trainer.fit(guard, save, on_epoch)
            save()
        if reason:
            saved = self.checkpoints.root / "latest" / node
            log.warning("⚠ %s at %s — model + weights saved to %s/", reason.word, self._position(trainer), saved)
        else:
            took = format_duration(progress.train_seconds)
            log.info(
                "%s: best validation loss %.4f at epoch %d, in %s", node, progress.best_loss, progress.best_epoch, took
            )
        return reason

    def _trainer(self, node: str) -> tuple[Trainer, dict]:
        """Build the node's estimator, data and trainer; also return the estimator's first parameters."""
        settings, evidence_names = self.settings[node], self.graph.nodes[node].evidence
        arrays = self.simulations.load([node, *evidence_names])
        theta = torch.from_numpy(arrays[node])
        evidence: dict[str, Tensor] = {name: torch.from_numpy(arrays[name]) for name in evidence_names}
        spec = EstimatorSpec(
            node=node,
            network=settings.network,
            embedding=settings.embedding,
            dim=theta.shape[1],
            evidence_shapes={name: tuple(value.shape[1:]) for name, value in evidence.items()},
            priors={name: self.config.priors[name] for name in (node, *evidence_names) if name in self.config.priors},
        )
        estimator = Estimator(spec)
        u, prepared = estimator.prepare(theta, evidence)
        fraction, seed = settings.loop.validation_fraction, self.config.seed
        data = TrainingData.split(u, prepared, fraction, seed, node, self.device)
        rows = data.train_rows.cpu()
        estimator.fit_standardisation(u[rows], {name: value[rows] for name, value in prepared.items()})
        initial = init_parameters(estimator)
        return Trainer(estimator.to(self.device), data, settings.loop, settings.optimizer, seed), initial

    def _event_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of training's nodes: of what is stored, of the file, or of a trial simulation."""
        if (self.directory.simulations_dir / "index.json").exists():
            return SimulationStore.open(self.directory.simulations_dir).event_shapes
        if self.config.simulation.from_file is not None:
            return imported_shapes(Path(self.config.simulation.from_file), self.graph)
        shapes = event_shapes(self.graph, self.config.seed)
        return {name: shapes[name] for name in self.graph.training_nodes}

    def _trackers(self) -> list[Tracker]:
        return [
            build(block, f"tracking.{name}", run_dir=self.directory.path)
            for name, block in self.config.tracking.items()
        ]

    def _position(self, trainer: Trainer) -> str:
        return f"epoch {trainer.progress.epoch + (trainer.progress.batch > 0)}/{trainer.loop.num_epochs}"
