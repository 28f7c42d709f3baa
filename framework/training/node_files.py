"""Writing and reading the files of one node in a checkpoint.

Files that are read are untrusted: content that training cannot have saved raises a `DamagedError` naming the file.
"""

import reprlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from framework.checkpoint import Generation
from framework.checkpoint.manifest import MANIFEST
from framework.errors import CheckpointError, DamagedError
from framework.estimators import Estimator
from framework.estimators.weight_files import INIT_FILE, init_parameters, read_weights, weight_files
from framework.rundir.metrics import STATE_FILE
from framework.training.data import TrainingData
from framework.training.expected import (
    Check,
    check_entries,
    has_entries,
    is_count,
    is_list,
    is_mapping,
    is_number,
    is_word,
)
from framework.training.progress import check_progress

_OPTIMIZER, _SIMULATIONS = "optimizer.pth", "simulations.pth"
_METADATA = "run"
_IN_OPTIMIZER = ("optimizer", "scheduler")
_PARTS = ("estimator", *_IN_OPTIMIZER, "progress", "rng")


@dataclass(frozen=True)
class NodeFiles:
    """The constant files of a node, which the store links from one checkpoint to the next."""

    initial: dict[str, Any]  # the estimator's spec and initial weights, from which it can be rebuilt
    simulations: dict[str, Tensor]  # ids of the training and the validation simulations

    @classmethod
    def at_start(cls, estimator: Estimator, ids: np.ndarray, data: TrainingData) -> Self:
        """Return the constant files of an estimator that has not been trained yet."""
        rows = {"training": data.train_rows, "validation": data.val_rows}
        ids_by_set = {name: torch.from_numpy(ids)[value.cpu()] for name, value in rows.items()}
        return cls(init_parameters(estimator), ids_by_set)

    def of(
        self, estimator: Estimator, state: Mapping[str, Any], about: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return {path relative to the checkpoint: content} for a `TrainState`'s state.

        `about` has the entries "classes" and "settings", which `read_state` returns next to the state.
        """
        states = dict(state)
        files: dict[str, Any] = weight_files(estimator, states.pop("estimator"))
        files |= weight_files(estimator, states.pop("best"), "_best")
        files[INIT_FILE], files[_SIMULATIONS] = self.initial, self.simulations
        files[_OPTIMIZER] = {name: states.pop(name) for name in _IN_OPTIMIZER}
        ranks = {"ranks": states.pop("ranks")} if "ranks" in states else {}
        files[STATE_FILE] = {**states, **about, _METADATA: dict(metadata), **ranks}
        return {f"{estimator.spec.node}/{name}": content for name, content in files.items()}


def read_state(generation: Generation, estimator: Estimator) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a node's state, for `TrainState`, and the entries saved with it: "classes", "settings" and "run"."""
    node = estimator.spec.node
    states = _read_json(generation, node)
    about = {name: states.pop(name) for name in ("classes", "settings", _METADATA)}
    states |= _read_torch(
        generation,
        f"{node}/{_OPTIMIZER}",
        lambda content: is_mapping(content, is_mapping) and content.keys() == set(_IN_OPTIMIZER),
        "the states of optimizer and scheduler",
    )
    states |= {"estimator": read_weights(estimator, generation), "best": read_weights(estimator, generation, "_best")}
    return states, about


def read_initial(generation: Generation, node: str) -> dict[str, Any]:
    """Return the saved `NodeFiles.initial`."""
    initial: dict[str, Any] = generation.load(f"{node}/{INIT_FILE}")
    return initial


def trained_on(generation: Generation, node: str) -> dict[str, Tensor]:
    """Return the ids of the simulations used for the node's state, under "training" and "validation"."""
    return _read_torch(
        generation,
        f"{node}/{_SIMULATIONS}",
        lambda content: is_mapping(content, _are_ids) and content.keys() == {"training", "validation"},
        "the ids of simulations, training and validation",
    )


def saved_progress(generation: Generation, node: str) -> dict[str, Any]:
    """Return the saved state of the node's `Progress`."""
    progress: dict[str, Any] = _read_json(generation, node)["progress"]
    return progress


def dataset_of_best(generation: Generation, node: str) -> dict[str, int]:
    """Return the numbers of simulations, "training" and "validation", used for the node's best weights."""
    progress = saved_progress(generation, node)
    datasets: list[dict[str, int]] = progress["datasets"]
    return [dataset for dataset in datasets if dataset["epoch"] < max(progress["best_epoch"], 1)][-1]


def nodes_in(generation: Generation | None) -> list[str]:
    """Return the nodes in a checkpoint, none if there is no checkpoint."""
    if generation is None:
        return []
    nodes: Any = generation.manifest.get("nodes")
    if not is_list(nodes, is_word):
        raise invalid_content(
            generation.path / MANIFEST, f"nodes: expected a list of names, found {reprlib.repr(nodes)}"
        )
    return list(nodes)


def file_of(generation: Generation, node: str, entry: str) -> Path:
    """Return the file that contains an entry of a node's state, for error messages."""
    return generation.path / node / (_OPTIMIZER if entry in _IN_OPTIMIZER else STATE_FILE)


def invalid_content(path: Path, reason: object) -> DamagedError:
    """Return the error for a file that training cannot have saved, even if its digest is valid."""
    return DamagedError(
        f"{path}: {reason}; not saved by training: resume from another checkpoint, with name=... resume_from=..."
    )


def _read_json(generation: Generation, node: str) -> dict[str, Any]:
    path, content = generation.path / node / STATE_FILE, generation.load(f"{node}/{STATE_FILE}")
    with _errors_naming(path):
        check_entries(content, _CHECKS, optional={"ranks"})
    progress = content["progress"]
    if "datasets" not in progress:  # a checkpoint of an earlier version
        before = {name: len(ids) for name, ids in trained_on(generation, node).items()}
        progress = {**progress, "datasets": [{"epoch": 0, **before}]}
    with _errors_naming(path):
        check_progress(progress)
    return {**content, "progress": progress}


@contextmanager
def _errors_naming(path: Path) -> Iterator[None]:
    try:
        yield
    except CheckpointError as error:
        raise invalid_content(path, error) from error


def _read_torch(generation: Generation, name: str, is_right: Callable[[Any], bool], expected: str) -> dict[str, Any]:
    content = generation.load(name)
    if not is_right(content):
        raise invalid_content(generation.path / name, f"expected {expected}")
    return dict(content)


def _are_ids(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 1 and value.dtype == torch.int64


def _are_classes(value: Any) -> bool:
    return is_mapping(value, is_word) and value.keys() == set(_PARTS)


def _is_block(value: Any) -> bool:
    return has_entries(value, _target_=is_word)


def _are_settings(value: Any) -> bool:
    return (
        is_mapping(value)
        and value.keys() == {"optimizer", "batch_size"}
        and is_count(value["batch_size"])
        and _is_block(value["optimizer"])
        and has_entries(value["optimizer"], scheduler=_is_block)
    )


def _is_rank(value: Any) -> bool:
    return (
        is_mapping(value)
        and value.keys() == {"rng", "loss_sum", "weight"}
        and has_entries(value, rng=is_mapping, loss_sum=is_number, weight=is_number)
    )


_CHECKS: dict[str, Check] = {
    "progress": (is_mapping, "counters and history"),
    "rng": (is_mapping, "the states of random generators"),
    "classes": (_are_classes, f"the names of the classes of {', '.join(_PARTS)}"),
    "settings": (_are_settings, "the optimizer's block, with a scheduler, and the batch_size"),
    _METADATA: (lambda value: has_entries(value, saved_at=is_word), "the run's metadata, with saved_at"),
    "ranks": (lambda value: is_list(value, _is_rank), "rng, loss_sum and weight of each process"),
}
