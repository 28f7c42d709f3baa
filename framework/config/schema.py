"""The framework's configuration schema: every key with its type, default and limits.

Components that users can replace (`network`, `embedding`, `priors.*`, `optimizer`, simulators) are
mappings with a `_target_`, checked against the target's signature when they are built.

Every key has a resume class, its own or that of the enclosing group (`resume_class`):
shape: a changed value does not fit the stored weights or simulations; resuming is refused.
trajectory: the run can resume, but its results will differ from those of an unchanged run; needs consent.
free: the results of training do not depend on it.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import MISSING

ResumeClass = Literal["shape", "trajectory", "free"]
SHAPE: ResumeClass = "shape"
TRAJECTORY: ResumeClass = "trajectory"
FREE: ResumeClass = "free"


def _key(default: Any, resume: ResumeClass | None = None, **metadata: Any) -> Any:
    """Declare a field.

    `minimum`, `maximum` and `above` bound numbers, `choices` lists the accepted words, `renamed` maps
    words of earlier versions to the current ones, `duration` marks a duration; `below` maps a block's
    keys to resume classes that differ from the block's own, and `instruction` marks a key that applies
    to one attempt and is not part of the run.
    """
    metadata |= {"resume": resume} if resume else {}
    if isinstance(default, dict | list):
        return field(default_factory=lambda: default.copy(), metadata=metadata)
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class LoopConfig:
    """The training loop of each node: epochs, batches and data split."""

    num_epochs: int = _key(300, FREE, minimum=0)
    batch_size: int = _key(200, minimum=1)
    early_stop_patience: int | None = _key(20, minimum=1)
    validation_fraction: float = _key(0.1, above=0.0, maximum=0.9)
    clip_grad_norm: float | None = _key(5.0, above=0.0)
    compile: bool = _key(False, SHAPE)  # the optimizer's state has a different layout


@dataclass
class SimulationConfig:
    """Number and storage of the simulations."""

    num_simulations: int = _key(10_000, TRAJECTORY, minimum=2)
    workers: int | str = _key(1, FREE, choices=("auto",), minimum=1)
    from_file: str | None = _key(None, SHAPE)  # replaces the simulator and its parameters
    max_invalid_fraction: float = _key(0.1, FREE, minimum=0.0, maximum=1.0)


@dataclass
class InferenceConfig:
    """Posterior samples and diagnostics after training."""

    num_samples: int = _key(10_000, minimum=1)
    batch_size: int = _key(10_000, minimum=1)
    num_predictive: int = _key(500, minimum=0)
    num_calibration: int = _key(300, minimum=0)
    num_calibration_samples: int = _key(200, minimum=10)
    report: bool = True


@dataclass
class RuntimeConfig:
    """How a run cooperates with a scheduler; durations are in seconds once parsed."""

    wall_clock_budget: float | str | None = _key(None, choices=("auto",), duration=True)
    checkpoint_before_end: float | str = _key("auto", choices=("auto",), duration=True)
    periodic_checkpoint_every: float | str | None = _key(1800.0, choices=("auto",), duration=True)
    drain: str = _key("step", choices=("step", "epoch"))
    grace: float = _key(30.0, duration=True)
    keep: int = _key(2, minimum=1)
    compress: bool = False
    second_signal_window: float = _key(5.0, duration=True)
    exit_code: int = _key(99, minimum=1, maximum=255)
    requeue: str = _key(
        "auto", choices=("auto", "native", "exit_code", "chain", "never"), renamed={"scontrol": "native"}
    )


@dataclass
class NodeConfig:
    """One random variable of the graph; the last five fields override the global groups for this node.

    The overriding keys have the same resume classes as those groups.
    """

    parents: list[str] = _key([])
    evidence: list[str] = _key([])
    simulator: dict[str, Any] | None = None
    batched: bool = False
    backend: str = _key("numpy", choices=("numpy", "torch"))
    observed: str | None = _key(None, FREE)
    truth: str | None = _key(None, FREE)
    labels: list[str] = _key([], FREE)
    network: dict[str, Any] = _key({})
    embedding: dict[str, Any] = _key({})
    loop: dict[str, Any] = _key({})
    optimizer: dict[str, Any] = _key({})
    inference: dict[str, Any] = _key({})


@dataclass
class Config:
    """The configuration of a run."""

    name: str = _key(MISSING, FREE)
    seed: int = _key(0, TRAJECTORY, minimum=0, maximum=2**63 - 1)
    device: str = _key("auto", FREE)
    resume: bool | None = _key(None, FREE, instruction=True)
    resume_from: str | None = _key(None, FREE, instruction=True)
    resume_allow: list[str] = _key([], FREE, instruction=True)
    overwrite: bool = _key(False, FREE, instruction=True)
    trust: bool = _key(False, FREE, instruction=True)
    graph: dict[str, NodeConfig] = _key({}, SHAPE)
    priors: dict[str, dict[str, Any]] = _key({}, SHAPE)
    network: dict[str, Any] = _key({}, SHAPE)
    embedding: dict[str, Any] | None = _key(None, SHAPE)
    loop: LoopConfig = _key(LoopConfig, TRAJECTORY)
    optimizer: dict[str, Any] = _key({}, TRAJECTORY, below={"_target_": SHAPE})
    simulation: SimulationConfig = _key(SimulationConfig)
    inference: InferenceConfig = _key(InferenceConfig, FREE)
    runtime: RuntimeConfig = _key(RuntimeConfig, FREE)
    tracking: dict[str, Any] = _key({}, FREE)
