"""The weights of a checkpoint that do not fit a changed configuration, determined without allocating weights."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from framework.checkpoint import Generation
from framework.compat.torch import map_tensors, tensors_in
from framework.config.schema import Config
from framework.estimators import Estimator, spec_of
from framework.estimators.weight_files import INIT_FILE, read_initial
from framework.simulation import SimulationStore

log = logging.getLogger(__name__)

Shapes = dict[str, tuple[int, ...]]


def changed_tensors(config: Config, generation: Generation, simulations_dir: Path) -> list[tuple[str, str, str]]:
    """Return (name, stored shape, new shape) of every tensor that differs, for the nodes in the checkpoint.

    Raises any error from building the objects of the new configuration.
    """
    event_shapes = SimulationStore.open(simulations_dir).event_shapes
    changed = []
    for node in config.graph:
        if f"{node}/{INIT_FILE}" not in generation.files:
            continue
        for name in (node, *config.graph[node].evidence):
            if name not in event_shapes:
                raise LookupError(f"the shape of '{name}' is unknown: no simulation of it is stored")
        old = stored_shapes(generation, node)
        new = estimator_shapes(config, node, event_shapes)
        names = [*old, *(name for name in new if name not in old)]
        changed += [
            (f"{node}.{name}", _text(old.get(name)), _text(new.get(name)))
            for name in names
            if old.get(name) != new.get(name)
        ]
    return changed


def stored_shapes(generation: Generation, node: str) -> Shapes:
    """Return the shapes of a node's weights in a checkpoint."""
    return {name: tuple(value.shape) for name, value in read_initial(generation, node)["weights"].items()}


def estimator_shapes(config: Config, node: str, event_shapes: Mapping[str, tuple[int, ...]]) -> Shapes:
    """Return the shapes of a node's estimator."""
    with _WeightsOnMeta():
        estimator = Estimator(spec_of(config, node, event_shapes))
    return {name: tuple(value.shape) for name, value in estimator.state_dict().items()}


class _WeightsOnMeta(TorchFunctionMode):
    """Mode that creates weights on the meta device, where they have shapes but no data.

    `torch.device("meta")` would work for most layers, but priors and masks compute with actual numbers
    when they are built. So only tensors created without values, and those combined with them, go there.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.empty, torch.rand, torch.randn) and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        if any(tensor.is_meta for tensor in tensors_in((args, kwargs))):
            args, kwargs = map_tensors(lambda tensor: tensor.to("meta"), (args, kwargs))
        return func(*args, **kwargs)


def _text(shape: tuple[int, ...] | None) -> str:
    return "—" if shape is None else str(shape)
