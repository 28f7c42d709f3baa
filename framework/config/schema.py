"""The configuration that the framework owns: every key, its type, default and limits.

Parts that users swap (`network`, `embedding`, `priors.*`, `optimizer`, simulators) are mappings
with a `_target_`, checked against the target's signature when they are built.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


def _key(default: Any, **metadata: Any) -> Any:
    """Declare a field; `minimum`, `maximum`, `above` bound numbers, `choices` lists words, `duration` reads seconds."""
    if isinstance(default, dict | list):
        return field(default_factory=lambda: default.copy(), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class LoopConfig:
    """How long and on what each node trains."""

    num_epochs: int = _key(300, minimum=0)
    batch_size: int = _key(200, minimum=1)
    early_stop_patience: int | None = _key(20, minimum=1)
    validation_fraction: float = _key(0.1, above=0.0, maximum=0.9)
    clip_grad_norm: float | None = _key(5.0, above=0.0)
    compile: bool = False


@dataclass
class SimulationConfig:
    """Draws from the prior and their simulations."""

    num_simulations: int = _key(10_000, minimum=2)
    workers: int | str = _key(1, choices=("auto",), minimum=1)
    from_file: str | None = None
    max_invalid_fraction: float = _key(0.1, minimum=0.0, maximum=1.0)


@dataclass
class InferenceConfig:
    """What is drawn and checked after training."""

    num_samples: int = _key(10_000, minimum=1)
    batch_size: int = _key(10_000, minimum=1)
    num_predictive: int = _key(500, minimum=0)
    num_calibration: int = _key(300, minimum=0)
    num_calibration_samples: int = _key(200, minimum=10)
    report: bool = True


@dataclass
class RuntimeConfig:
    """How a run shares the machine with a scheduler; durations are seconds once parsed."""

    wall_clock_budget: float | str | None = _key(None, choices=("auto",), duration=True)
    checkpoint_before_end: float | str = _key("auto", choices=("auto",), duration=True)
    periodic_checkpoint_every: float | str | None = _key(1800.0, choices=("auto",), duration=True)
    drain: str = _key("step", choices=("step", "epoch"))
    grace: float = _key(30.0, duration=True)
    keep: int = _key(2, minimum=1)
    compress: bool = False
    second_signal_window: float = _key(5.0, duration=True)
    exit_code: int = _key(99, minimum=1, maximum=255)
    requeue: str = _key("auto", choices=("auto", "scontrol", "exit_code", "chain", "never"))


@dataclass
class NodeConfig:
    """One random variable of the graph; the last five fields override the global groups for this node."""

    parents: list[str] = _key([])
    evidence: list[str] = _key([])
    simulator: dict[str, Any] | None = None
    batched: bool = False
    backend: str = _key("numpy", choices=("numpy", "torch"))
    observed: str | None = None
    truth: str | None = None
    network: dict[str, Any] = _key({})
    embedding: dict[str, Any] = _key({})
    loop: dict[str, Any] = _key({})
    optimizer: dict[str, Any] = _key({})
    inference: dict[str, Any] = _key({})


@dataclass
class Config:
    """A whole run."""

    name: str = MISSING
    seed: int = _key(0, minimum=0)
    device: str = "auto"
    resume: bool | None = None
    resume_from: str | None = None
    overwrite: bool = False
    graph: dict[str, NodeConfig] = _key({})
    priors: dict[str, dict[str, Any]] = _key({})
    network: dict[str, Any] = _key({})
    embedding: dict[str, Any] | None = None
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: dict[str, Any] = _key({})
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    tracking: dict[str, Any] = _key({})
