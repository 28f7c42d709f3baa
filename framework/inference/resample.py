"""Drawing more samples from a run after it has ended."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from framework.config.overrides import Override
from framework.config.parse import from_container
from framework.config.schema import Config
from framework.config.target import reason_of
from framework.device import choose_device
from framework.errors import ConfigError
from framework.graph import load_array, with_rows
from framework.inference.draw import Arrays, draw_posterior, draw_predictive
from framework.inference.load_run import LoadedRun
from framework.inference.posterior import Posterior
from framework.inference.samples import (
    describe_source,
    names_of_parameters,
    next_directory,
    source_of_samples,
    write_samples,
)
from framework.rng import seed_sequence, seeded
from framework.tracking import Console

log = logging.getLogger(__name__)

_ALLOWED = re.compile(r"inference\.(num_samples|batch_size|num_predictive)|seed|device|trust|graph\.(\w+)\.observed")


def resample(run_dir: str, kind: str, overrides: Sequence[str]) -> Path:
    """Draw samples of `kind` and return the new directory in which they are saved."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run = LoadedRun(run_dir)
    config = _override(run, overrides)
    run.trust = config.trust
    checkpoint, observed = None, {}
    if kind == "prior":
        arrays = _draw_prior(run, config)
    else:
        checkpoint, observed = run.generation.path.name, _observations(run, config, overrides)
        arrays = _draw_posterior(run, config, observed)
    labels: Mapping[str, Sequence[str]] = names_of_parameters(arrays, config)
    if kind == "predictive":
        arrays = _draw_predictive(run, config, observed, arrays)
        labels = {node: config.graph[node].labels for node in arrays}
    directory = next_directory(run.directory.samples_dir, kind)
    num_samples = {node: content["samples"].shape[kind != "prior"] for node, content in arrays.items()}
    own = run.directory.path / "observed.npz"
    files = {
        name: str(config.graph[name].observed) if name in _overridden_nodes(overrides) else own for name in observed
    }
    typed = [override for override in overrides if Override.parse(override).key != "trust"]
    source = source_of_samples(kind, config, checkpoint, observed, files, num_samples, typed)
    write_samples(directory, arrays, labels, source)
    log.info("%s", describe_source(source))
    return directory


def _override(run: LoadedRun, overrides: Sequence[str]) -> Config:
    container = asdict(run.config) | {"trust": False}  # the directory must not declare itself trusted
    for override in overrides:
        match = _allowed(override)
        if not match:
            raise ConfigError(
                f"{override}: expected KEY=VALUE with one of inference.num_samples, inference.batch_size, seed, "
                "device, trust and graph.<node>.observed; everything else is fixed by the run"
            )
        if (node := match.group(2)) and node not in run.config.graph:
            raise ConfigError(f"{override}: no node '{node}' in the run, only {', '.join(run.config.graph)}")
        try:
            change: Any = OmegaConf.to_container(OmegaConf.from_dotlist([override]), resolve=True)
        except (OmegaConfBaseException, YAMLError) as error:
            raise ConfigError(f"{override}: cannot be read; expected KEY=VALUE ({reason_of(error)})") from error
        container = _merged(container, change)
    return from_container(container)


def _merged(base: Any, change: Any) -> Any:
    """Merge an override into the run's config, which contains no interpolations."""
    if not isinstance(base, Mapping) or not isinstance(change, Mapping):
        return change
    return {**base, **{name: _merged(base.get(name), item) for name, item in change.items()}}


def _draw_prior(run: LoadedRun, config: Config) -> Arrays:
    arrays: Arrays = {}
    for name, node in run.graph.nodes.items():
        if node.prior is not None:
            with seeded(seed_sequence(config.seed, "prior", name)):
                theta = node.prior.sample(config.inference.num_samples)
            arrays[name] = {"samples": theta.numpy(), "log_prob": node.prior.log_prob(theta).numpy()}
    return arrays


def _observations(run: LoadedRun, config: Config, overrides: Sequence[str]) -> dict[str, np.ndarray]:
    """Return {evidence node: (num_observations, *event_shape)}: the run's own, or from files given as overrides."""
    arrays = run.directory.read_arrays("observed")
    estimators = run.joint_posterior.estimators
    shapes = {n: s for e in estimators.values() for n, s in e.spec.evidence_shapes.items() if n not in estimators}
    for name in _overridden_nodes(overrides):
        if name not in shapes:
            raise ConfigError(f"graph.{name}.observed: not an evidence node, only {', '.join(shapes)}")
        arrays[name] = load_array(str(config.graph[name].observed), f"graph.{name}.observed")
    observed: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        key = f"graph.{name}.observed"
        if name not in arrays:
            raise ConfigError(f"{key}: missing; the run has no observation, give its file: {key}=FILE")
        observed[name] = with_rows(arrays[name], shape, key)
        first = next(iter(observed))
        if len(observed[name]) != len(observed[first]):
            raise ConfigError(
                f"{key}: {len(observed[name])} observations, but graph.{first}.observed has {len(observed[first])}; "
                "expected one row per observation in both: give the files of both"
            )
    return observed


def _overridden_nodes(overrides: Sequence[str]) -> list[str]:
    """Return the nodes for which the overrides give other observations."""
    return [match.group(2) for match in map(_allowed, overrides) if match and match.group(2)]


def _allowed(override: str) -> re.Match[str] | None:
    parsed = Override.parse(override)
    return _ALLOWED.fullmatch(parsed.name) if parsed.value is not None and not parsed.prefix else None


def _draw_posterior(run: LoadedRun, config: Config, observed: Mapping[str, np.ndarray]) -> Arrays:
    device = choose_device(config.device)
    estimators = [estimator.to(device) for estimator in run.joint_posterior.estimators.values()]
    posterior = Posterior(estimators, observed, config.seed)
    console = Console()
    with console.phase("sampling", posterior.num_observations):
        return draw_posterior(
            posterior,
            dict.fromkeys(posterior.estimators, config.inference.num_samples),
            config.inference.batch_size,
            lambda done: console.update(done, "observations", last=done == posterior.num_observations),
        )


def _draw_predictive(run: LoadedRun, config: Config, observed: Mapping[str, np.ndarray], posterior: Arrays) -> Arrays:
    names = {*observed, *run.directory.read_arrays("observed")}
    predictive = draw_predictive(run.graph, names, posterior, config.inference.num_samples, config.seed)
    if not predictive:
        raise ConfigError(
            f"predictive: {', '.join(sorted(names))} came from a file of simulations and have no simulator"
        )
    return {node: {"samples": values} for node, values in predictive.items()}
