"""Loading a finished or interrupted run: its posterior, samples and simulations."""

import logging
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np

from framework.checkpoint import CheckpointStore, Generation
from framework.config.parse import from_container, graph_container
from framework.config.schema import Config
from framework.config.trust import check_targets
from framework.errors import CheckpointError, ConfigError
from framework.estimators.weight_files import blocks_of, load_estimator
from framework.graph import Graph, build_graph, inference_order
from framework.inference.node_posterior import NodePosterior
from framework.inference.posterior import Posterior
from framework.inference.samples import read_samples
from framework.paths import register_bundle
from framework.rundir.directory import RunDirectory
from framework.simulation import SimulationStore

log = logging.getLogger(__name__)


class LoadedRun:
    """The content of a run directory; nothing outside it is read except the simulator's code.

    Unless `trust` is set, the directory's config may only name code that is allowed at its place.
    """

    def __init__(self, run_dir: str | Path, trust: bool = False) -> None:
        self.trust = trust
        self.directory = RunDirectory(Path(run_dir))
        self.directory.refuse_links()
        record = self.directory.record()
        for note in record.notes:
            log.warning("⚠ %s", note)
        self.config: Config = from_container(record.config)

    @cached_property
    def joint_posterior(self) -> Posterior:
        """The posterior of all trained nodes, with the best weights of the newest checkpoint."""
        trained = [node for node in inference_order(self.config.graph) if node in self.generation.texts("nodes")]
        known = {node: blocks_of(self.config, node) for node in trained}
        self._check_targets("network", "embedding", "priors")
        estimators = [load_estimator(self.generation, node, known[node]) for node in trained]
        return Posterior(estimators, self.directory.read_arrays("observed"), self.config.seed)

    @cached_property
    def graph(self) -> Graph:
        """The graph with its simulators, whose code must be importable, and the observations in the directory."""
        self._check_targets("simulator", "priors")
        from_file = self.config.simulation.from_file is not None
        names = SimulationStore.open(self.directory.simulations_dir).event_shapes if from_file else ()
        nodes = graph_container(self.config)
        for name, node in nodes.items():
            if name in self.config.priors or node["simulator"] or name in names:
                node |= {"observed": None, "truth": None}
        return build_graph(nodes, self.config.priors, names)

    def _check_targets(self, *groups: str) -> None:
        """Check the parts of the directory's config that are about to be built; raises `ConfigError`."""
        if not self.trust:
            whole = asdict(self.config)
            of_nodes = {name: {g: node.get(g) for g in groups} for name, node in whole["graph"].items()}
            check_targets({**{g: whole.get(g) for g in groups}, "graph": of_nodes}, None, self.directory.path)

    def posterior(self, node: str) -> NodePosterior:
        """Return the posterior of one node."""
        if node not in self.joint_posterior.estimators:
            raise ConfigError(f"{node}: not a trained node, only {', '.join(self.joint_posterior.estimators)}")
        return NodePosterior(self.joint_posterior, node)

    def samples(self, kind: str = "posterior") -> dict[str, dict[str, np.ndarray]]:
        """Return {node: {"samples": ..., "log_prob": ..., "labels": ...}} from `samples/<kind>/`."""
        return read_samples(self.directory.samples_dir / kind)

    def simulations(self, *nodes: str) -> dict[str, np.ndarray]:
        """Return {node: (num_valid, *event_shape)} of the given nodes."""
        return SimulationStore.open(self.directory.simulations_dir).load(list(nodes))

    @cached_property
    def generation(self) -> Generation:
        """The newest checkpoint."""
        generation = CheckpointStore(self.directory.checkpoints_dir).latest()
        if generation is None:
            raise CheckpointError(f"{self.directory.path}: no checkpoint yet; train first, or resume with +resume=true")
        return generation


def load_run(run_dir: str | Path, trust: bool = False) -> LoadedRun:
    """Open the run in `run_dir`; raises `CheckpointError` if there is none.

    With `trust`, any code that its config names is called: use it only if you trust whoever wrote the directory.
    """
    register_bundle()
    return LoadedRun(run_dir, trust)
