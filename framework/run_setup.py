"""The objects of a run, built and checked before anything is simulated or written."""

import functools
from pathlib import Path

from framework.config.parse import graph_container, node_settings
from framework.config.schema import Config
from framework.config.target import locate
from framework.device import choose_device
from framework.estimators import spec_of
from framework.graph import build_graph, check_shapes
from framework.rundir.directory import RunDirectory
from framework.runtime import BudgetReader, DistributedContext, Guard
from framework.simulation import SimulationStore, imported_names, imported_shapes, infer_shapes, nodes_added_or_removed
from framework.training.check import check_training


class RunSetup:
    """Graph, settings, estimators and device of a run; raises `ConfigError` for mistakes that can be found early.

    `source` is the run to resume, which may be in another directory until it is copied; None for a new run. The
    guard's budget is set here, since a trial simulation may be needed to infer the shapes.
    """

    def __init__(
        self, config: Config, source: RunDirectory | None, guard: Guard, distributed: DistributedContext
    ) -> None:
        self.config = config
        self._stored = source.simulations_dir if source and SimulationStore.exists(source.simulations_dir) else None
        self.device = choose_device(config.device, distributed.local_rank if distributed.world_size > 1 else None)
        self.build_graph = functools.partial(build_graph, graph_container(config), config.priors, self._presimulated())
        self.graph = self.build_graph()
        self.settings = {node.name: node_settings(config, node.name) for node in self.graph.inferred}
        self.budget = guard.limit(BudgetReader(config.runtime.wall_clock_budget))  # the line to log
        self.shapes = self._event_shapes()
        self.graph = check_shapes(self.graph, self.shapes)
        self.specs = {node.name: spec_of(config, node.name, self.shapes) for node in self.graph.inferred}
        for name, spec in self.specs.items():
            check_training(spec, self.settings[name], config.graph[name], self.num_simulations)
        for name, block in config.tracking.items():
            locate(block, f"tracking.{name}")

    @property
    def num_simulations(self) -> int | None:
        """The number of simulations to draw; None if they come from a file."""
        return None if self.config.simulation.from_file else self.config.simulation.num_simulations

    @property
    def num_epochs(self) -> dict[str, int]:
        """The number of epochs of each node that is trained."""
        return {name: settings.loop.num_epochs for name, settings in self.settings.items()}

    def _presimulated(self) -> list[str]:
        """Return the nodes whose simulations come from a file, in this or an earlier attempt."""
        from_file = self.config.simulation.from_file
        if from_file is None:
            return []
        nodes = {n for name, node in self.config.graph.items() if node.evidence for n in (name, *node.evidence)}
        if self._stored:
            stored = SimulationStore.open(self._stored).event_shapes
            if nodes <= stored.keys():
                return list(stored)
        return imported_names(Path(from_file))

    def _event_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the event shapes of the nodes to train on, from the store, the file, or a trial simulation."""
        if self._stored and not nodes_added_or_removed(self._stored, self.graph.training_nodes, self.num_simulations):
            return SimulationStore.open(self._stored).event_shapes
        if self.config.simulation.from_file is not None:
            return imported_shapes(Path(self.config.simulation.from_file), self.graph)
        shapes = infer_shapes(self.graph, self.config.seed)
        return {name: shapes[name] for name in self.graph.training_nodes}
