"""Conversion of an estimator to checkpoint files and back."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from framework.checkpoint import Generation
from framework.config.parse import node_settings
from framework.config.schema import Config
from framework.config.target import targets_of
from framework.errors import CheckpointError, ConfigError, DamagedError, printable
from framework.estimators.estimator import Estimator, EstimatorSpec

INIT_FILE = "init_parameters.pth"


def weight_files(estimator: Estimator, state: Mapping[str, Tensor], suffix: str = "") -> dict[str, dict[str, Tensor]]:
    """Split a state dict by file: {`{name}{suffix}.pth`: part of the state dict}."""
    files: dict[str, dict[str, Tensor]] = {f"{name}{suffix}.pth": {} for name in estimator.files()}
    for key, value in state.items():
        name = next(n for n, prefixes in estimator.files().items() if key.startswith(prefixes))
        files[f"{name}{suffix}.pth"][key] = value
    return files


def read_weights(estimator: Estimator, generation: Generation, suffix: str = "") -> dict[str, Tensor]:
    """Read the state dict that `weight_files` split."""
    node = estimator.spec.node
    state: dict[str, Tensor] = {}
    for name in estimator.files():
        state |= _tensors(generation, f"{node}/{name}{suffix}.pth")
    wanted = estimator.state_dict()
    unmatched = sorted(state.keys() ^ wanted.keys())
    for name in sorted(state.keys() & wanted.keys()):
        if state[name].shape != wanted[name].shape:
            unmatched.append(f"{name} {tuple(state[name].shape)} → {tuple(wanted[name].shape)}")
    if unmatched:
        raise CheckpointError(
            f"{generation.path / node}: weights do not match the network: {', '.join(unmatched[:3])}; restore the "
            "network's code and settings, or start another run with name=..."
        )
    return state


def init_parameters(estimator: Estimator) -> dict[str, Any]:
    """Return the spec and the initial weights, from which the estimator can be rebuilt without a configuration."""
    weights = {name: value.detach().clone() for name, value in estimator.state_dict().items()}
    return {"spec": estimator.spec.to_container(), "weights": weights}


def read_initial(generation: Generation, node: str) -> dict[str, Any]:
    """Read the saved result of `init_parameters` for a node; raises `CheckpointError`."""
    name = f"{node}/{INIT_FILE}"
    content = generation.load(name)
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in ("spec", "weights")):
        raise DamagedError(f"{generation.path / name}: damaged (it does not contain a spec and weights)")
    _require_tensors(generation, name, content["weights"])
    return content


def blocks_of(config: Config, node: str) -> dict[str, Any]:
    """Return the config blocks from which a node's estimator is built."""
    settings = node_settings(config, node)
    return {"network": settings.network, "embedding": settings.embedding, "priors": config.priors}


def load_estimator(generation: Generation, node: str, known: Mapping[str, Any]) -> Estimator:
    """Rebuild a node's estimator from a checkpoint, with its best weights.

    Each `_target_` must be the same in `known`, the blocks of the run's config, because a checkpoint must not
    choose which code runs. Raises `CheckpointError` otherwise.
    """
    path = generation.path / node / INIT_FILE
    try:
        spec = EstimatorSpec(**read_initial(generation, node)["spec"])
        targets = targets_of({"network": spec.network, "embedding": spec.embedding, "priors": spec.priors})
        spec.network.pop("marginal_every", None)  # written by versions before 0.2
    except (ConfigError, LookupError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path}: does not describe an estimator ({printable(str(error))})") from error
    expected = targets_of(known)
    if unknown := [str(target) for place, target in targets.items() if expected.get(place) != target]:
        raise CheckpointError(
            f"{path}: refused, because it names {printable(', '.join(unknown))}, which the run's config does not name "
            "there; use a checkpoint from a source that you trust, or train from scratch"
        )
    estimator = Estimator(spec)
    estimator.load_state_dict(read_weights(estimator, generation, "_best"))
    return estimator.eval()


def _tensors(generation: Generation, name: str) -> dict[str, Tensor]:
    content = generation.load(name)
    _require_tensors(generation, name, content)
    return content


def _require_tensors(generation: Generation, name: str, content: Any) -> None:
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise DamagedError(f"{generation.path / name}: damaged (expected tensors by name)")
