"""More samples from a run, drawn after it has ended."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from framework.config.parse import from_container, resolve
from framework.config.schema import Config
from framework.device import choose_device
from framework.errors import ConfigError
from framework.graph import load_array, with_rows
from framework.inference.draw import Arrays, draw_posterior, draw_predictive
from framework.inference.load import LoadedRun
from framework.inference.posterior import Posterior
from framework.inference.samples import next_directory, write_samples
from framework.rng import seed_sequence, seeded
from framework.tracking import Console

_ALLOWED = re.compile(r"inference\.(num_samples|batch_size|num_predictive)|seed|device|graph\.(\w+)\.observed")


def draw_more(run_dir: str, kind: str, overrides: Sequence[str]) -> Path:
    """Draw samples of `kind` and return the new directory that holds them."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run = LoadedRun(run_dir)
    config = _override(run, overrides)
    if kind == "prior":
        arrays = _draw_prior(run, config)
    else:
        arrays = _draw_posterior(run, config, overrides, config.inference.num_samples)
    if kind == "predictive":
        predictive = draw_predictive(run.graph, arrays, config.inference.num_samples, config.seed)
        arrays = {node: {"samples": values} for node, values in predictive.items()}
    directory = next_directory(run.directory.samples_dir, kind)
    write_samples(directory, arrays)
    return directory


def _override(run: LoadedRun, overrides: Sequence[str]) -> Config:
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not _ALLOWED.fullmatch(key):
            raise ConfigError(
                f"{override}: expected KEY=VALUE with one of inference.num_samples, inference.batch_size, seed, device "
                "and graph.<node>.observed; everything else is fixed by the run"
            )
    try:
        merged = OmegaConf.merge(run.directory.record().config, OmegaConf.from_dotlist(list(overrides)))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{' '.join(overrides)}: {error}") from error
    return from_container(resolve(merged))  # type: ignore[arg-type]


def _draw_prior(run: LoadedRun, config: Config) -> Arrays:
    arrays: Arrays = {}
    for name, node in run.graph.nodes.items():
        if node.prior is not None:
            with seeded(seed_sequence(config.seed, "prior", name)):
                theta = node.prior.sample(config.inference.num_samples)
            arrays[name] = {"samples": theta.numpy(), "log_prob": node.prior.log_prob(theta).numpy()}
    return arrays


def _draw_posterior(run: LoadedRun, config: Config, overrides: Sequence[str], num_samples: int) -> Arrays:
    joint = run.joint_posterior
    device = choose_device(config.device)
    estimators = [estimator.to(device) for estimator in joint.estimators.values()]
    observed = {name: value.numpy() for name, value in joint.observations.items()} | _new_observations(
        config, overrides
    )
    shapes = {name: shape for estimator in estimators for name, shape in estimator.spec.evidence_shapes.items()}
    for name, shape in shapes.items():
        if name in observed:
            observed[name] = with_rows(observed[name], shape, f"graph.{name}.observed")
    posterior = Posterior(estimators, observed, config.seed)
    console = Console()
    with console.phase("sampling", posterior.num_observations):
        return draw_posterior(
            posterior,
            dict.fromkeys(posterior.estimators, num_samples),
            config.inference.batch_size,
            lambda done: console.update(done, "observations", last=done == posterior.num_observations),
        )


def _new_observations(config: Config, overrides: Sequence[str]) -> dict[str, np.ndarray]:
    names = [match.group(2) for o in overrides if (match := _ALLOWED.fullmatch(o.partition("=")[0])) and match.group(2)]
    return {name: load_array(str(config.graph[name].observed), f"graph.{name}.observed") for name in names}
