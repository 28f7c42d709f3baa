"""Evaluation after training: samples for every observation, calibration, and the report."""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from framework.checkpoint import Generation
from framework.config.duration import format_duration
from framework.config.parse import NodeSettings
from framework.config.schema import Config
from framework.estimators.weight_files import blocks_of, load_estimator
from framework.files import make_own_directory
from framework.graph import Graph
from framework.inference.draw import Arrays, draw_calibration, draw_posterior, draw_predictive
from framework.inference.information import information_gain
from framework.inference.posterior import Posterior
from framework.inference.samples import names_of_parameters, source_of_samples, write_samples
from framework.rundir.directory import RunDirectory
from framework.simulation import SimulationStore
from framework.tracking import Console
from framework.training.node_files import dataset_of_best, saved_progress, trained_on
from framework.versions import versions

log = logging.getLogger(__name__)


class Evaluation:
    """Sampling and reporting with the best weights of the newest checkpoint.

    `check` is called between pieces of work and may raise to stop.
    """

    def __init__(
        self,
        config: Config,
        settings: Mapping[str, NodeSettings],
        directory: RunDirectory,
        generation: Generation,
        graph: Graph,
        simulations: SimulationStore,
        device: torch.device,
        check: Callable[[], None],
    ) -> None:
        self.config = config
        self.settings = settings
        self.directory = directory
        self.graph = graph
        self.simulations = simulations
        self.generation = generation
        known = {n.name: blocks_of(config, n.name) for n in graph.inferred}
        self.estimators = {name: load_estimator(generation, name, known[name]).to(device) for name in known}
        self.device = device
        self.check = check

    def run(self, console: Console) -> None:
        """Write `samples/` and `report/`, and log their paths."""
        make_own_directory(self.directory.samples_dir)
        samples = self._sample(console) if self.graph.is_observed else {}
        no_samples = f"none, because there is no observation; {self._sampling_command()}"
        log.info("samples: %s", self.directory.samples_dir if samples else no_samples)
        if self.config.inference.report:
            log.info("report:  %s", self._report(samples))

    def _sample(self, console: Console) -> Arrays:
        posterior = Posterior(list(self.estimators.values()), self.directory.read_arrays("observed"), self.config.seed)
        num_samples = {name: settings.inference.num_samples for name, settings in self.settings.items()}

        def on_progress(done: int) -> None:
            console.update(done, "observations", last=done == posterior.num_observations)
            self.check()

        with console.phase("sampling", posterior.num_observations):
            arrays = draw_posterior(posterior, num_samples, self.config.inference.batch_size, on_progress)
        self._write("posterior", arrays, names_of_parameters(arrays, self.config))
        return arrays

    def _report(self, samples: Arrays) -> Path:
        from framework.inference.report import write_report  # matplotlib takes a second to load
        from framework.inference.summary import NodeReport, PredictiveReport

        inference, truth = self.config.inference, self.directory.read_arrays("truth")
        labels = {name: node.labels for name, node in self.graph.nodes.items()}
        none = {name: np.zeros((0, 0, estimator.prior.dim)) for name, estimator in self.estimators.items()}
        nodes = [
            NodeReport(
                name=name,
                samples=samples[name]["samples"] if samples else none[name],
                truth=truth.get(name) if samples else None,
                labels=labels[name],
                **self._diagnostics(name),
            )
            for name in self.estimators
        ]
        predictive: list[PredictiveReport] = []
        if inference.num_predictive and samples:
            num, observed = inference.num_predictive, self.directory.read_arrays("observed")
            drawn = draw_predictive(self.graph, observed, samples, num, self.config.seed, self.check)
            predictive = [
                PredictiveReport(name, values, observed[name], labels[name]) for name, values in drawn.items()
            ]
            self._write("predictive", {name: {"samples": values} for name, values in drawn.items()}, labels)
        self.check()
        return write_report(
            self.directory.report_dir,
            title=self.config.name,
            run_info=self._run_info(),
            nodes=nodes,
            predictive=predictive,
            seed=self.config.seed,
        )

    def _diagnostics(self, node: str) -> dict[str, Any]:
        """Return a node's training history and the diagnostics from its held-out simulations."""
        estimator, settings = self.estimators[node], self.settings[node]
        progress = self._progress(node)
        checks: dict[str, Any] = {"history": progress["history"], "best_epoch": progress["best_epoch"]}
        checks["changes"] = [dataset["epoch"] for dataset in progress.get("datasets", [])[1:]]
        names = list(estimator.spec.evidence_shapes)
        arrays = self.simulations.load([node, *names])
        held_out = trained_on(self.generation, node)["validation"].numpy()
        rows = torch.from_numpy(np.flatnonzero(np.isin(arrays["index"], held_out)))
        theta = torch.from_numpy(arrays[node])[rows].flatten(1).to(self.device)
        evidence = {name: torch.from_numpy(arrays[name])[rows].to(self.device) for name in names}
        batch_size = settings.inference.batch_size
        checks["information_gain"] = information_gain(estimator, theta, evidence, batch_size, self.check)
        num_calibration = min(settings.inference.num_calibration, len(rows))
        if num_calibration:
            checks["calibration_theta"] = theta[:num_calibration].cpu().numpy()
            checks["calibration_samples"] = draw_calibration(
                estimator,
                {name: value[:num_calibration] for name, value in evidence.items()},
                settings.inference.num_calibration_samples,
                batch_size,
                self.config.seed,
                self.check,
            )
        return checks

    def _write(self, kind: str, arrays: Arrays, labels: Mapping[str, Sequence[str]]) -> None:
        num_samples = {name: content["samples"].shape[1] for name, content in arrays.items()}
        observed = self.directory.read_arrays("observed")
        files = {name: str(self.config.graph[name].observed) for name in observed}
        source = source_of_samples(kind, self.config, self.generation.path.name, observed, files, num_samples)
        write_samples(self.directory.samples_dir / kind, arrays, labels, source)

    def _sampling_command(self) -> str:
        """Return the command for sampling once there is an observation."""
        files = " ".join(f"graph.{name}.observed=FILE" for name in self.graph.observables)
        return f"sample it later with python -m framework.sample {self.directory.path} posterior {files}"

    def _progress(self, node: str) -> dict[str, Any]:
        return saved_progress(self.generation, node)

    def _trained_on(self, node: str) -> str:
        counts = dataset_of_best(self.generation, node)
        return f"{counts['training']} simulations ({counts['validation']} held out)"

    def _run_info(self) -> dict[str, str]:
        num_valid, num_invalid = self.simulations.counts()
        seconds = sum(self._progress(node)["train_seconds"] for node in self.estimators)
        losses = {node: self._progress(node)["best_loss"] for node in self.estimators}
        return {
            "run directory": str(self.directory.path),
            "seed": str(self.config.seed),
            "simulations": f"{num_valid} valid, {num_invalid} invalid",
            "trained on": ", ".join(f"{node} {self._trained_on(node)}" for node in self.estimators),
            "observations": str(self.graph.num_observations)
            if self.graph.is_observed
            else f"none; {self._sampling_command()}",
            "training time": format_duration(seconds),
            "best validation loss": ", ".join(f"{node} {loss:.4f}" for node, loss in losses.items()),
            "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
            "command": " ".join(["python -m framework.train", *sys.argv[1:]]),
        }
