"""Checks of a node's training settings before anything is simulated or written."""

import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from framework.compat.torch import FIRST_OPTIMIZER_IMPORTS
from framework.config.parse import NodeSettings
from framework.config.schema import NodeConfig
from framework.config.target import build_part, reason_of, shown
from framework.errors import ConfigError
from framework.estimators import Estimator, EstimatorSpec
from framework.imports import import_without_gc
from framework.rng import seed_sequence, seeded
from framework.training.data import num_held_out


def check_training(spec: EstimatorSpec, settings: NodeSettings, node: NodeConfig, num_rows: int | None) -> None:
    """Build network, embedding, optimizer and scheduler, try the loss and the schedule; raises `ConfigError`.

    `num_rows` is an upper limit of the number of simulations, if known.
    """
    with _errors_naming_node(spec.node, node):
        if num_rows is not None:
            num_held_out(num_rows, settings.loop.validation_fraction)
        with seeded(seed_sequence(0)):
            estimator = Estimator(spec)
            _try_loss(estimator, settings)
        block = {name: value for name, value in settings.optimizer.items() if name != "scheduler"}
        for name, value in block.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"optimizer.{name}={value}: expected a finite number")
        import_without_gc(FIRST_OPTIMIZER_IMPORTS)
        optimizer = build_part(torch.optim.Optimizer, block, "optimizer", params=list(estimator.parameters()))
        schedule = settings.optimizer.get("scheduler")
        scheduler: Any = build_part(LRScheduler, schedule, "optimizer.scheduler", optimizer=optimizer)  # type: ignore[arg-type]
        takes_loss = isinstance(scheduler, ReduceLROnPlateau)
        arguments: list[Any] = [1.0] if takes_loss else []
        _try_step("optimizer.scheduler", schedule or {}, partial(scheduler.step, *arguments))


def _try_step(key: str, block: Mapping[str, Any], step: Callable[[], Any]) -> None:
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns that no optimizer has taken a step before
            step()
    except Exception as error:  # some arguments are only used in the first step
        what = f"{key}: {block['_target_']} cannot take a step"
        raise ConfigError(f"{what}: {reason_of(error)}{shown(block)}") from error


def _try_loss(estimator: Estimator, settings: NodeSettings) -> None:
    """Compute the loss of two rows, which raises if the density is set up incorrectly."""
    u = torch.zeros(2, estimator.prior.latent_dim)
    evidence = {name: torch.zeros(2, *shape) for name, shape in estimator.embedding.shapes.items()}
    try:
        estimator.eval()(u, evidence)
    except Exception as error:  # a user-defined network may raise any exception
        target, arguments = settings.network["_target_"], shown(settings.network)
        raise ConfigError(f"network: {target} cannot compute its loss: {reason_of(error)}{arguments}") from error


@contextmanager
def _errors_naming_node(name: str, node: NodeConfig) -> Iterator[None]:
    """Make errors name the node's own key if it overrides the group."""
    try:
        yield
    except ConfigError as error:
        group = re.match(r"\w*", str(error))
        if group and getattr(node, group[0], None):
            raise ConfigError(f"graph.{name}.{error}") from error
        raise
