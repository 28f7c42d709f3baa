"""The configuration that the framework owns: every key, its type, default and limits.

Parts that users swap (`network`, `embedding`, `priors.*`, `optimizer`, simulators) are mappings
with a `_target_`, checked against the target's signature when they are built.

Every key has a resume class, its own or that of the group around it (`resume_class`):
shape: another value does not fit what the run has stored, its weights or its simulations; refused.
trajectory: the run can go on, but not to where it would have come; needs consent.
free: no number of the training depends on it.
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

    `minimum`, `maximum`, `above` bound numbers, `choices` lists words, `renamed` maps words of earlier
    versions to those of today, `duration` reads seconds; `below` holds the resume classes of a block's own
    keys that differ from the block's, and `instruction` marks what is said to one attempt and is not part
    of the run.
    """
    metadata |= {"resume": resume} if resume else {}
    if isinstance(default, dict | list):
        return field(default_factory=lambda: default.copy(), metadata=metadata)
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class LoopConfig:
    """How long and on what each node trains."""

    num_epochs: int = _key(300, FREE, minimum=0)
    batch_size: int = _key(200, minimum=1)
    early_stop_patience: int | None = _key(20, minimum=1)
    validation_fraction: float = _key(0.1, above=0.0, maximum=0.9)
    clip_grad_norm: float | None = _key(5.0, above=0.0)
    compile: bool = _key(False, SHAPE)  # the optimizer's state is of another form


@dataclass
class SimulationConfig:
    """Draws from the prior and their simulations."""

    num_simulations: int = _key(10_000, TRAJECTORY, minimum=2)
    workers: int | str = _key(1, FREE, choices=("auto",), minimum=1)
    from_file: str | None = _key(None, SHAPE)  # it stands for simulator and parameters
    max_invalid_fraction: float = _key(0.1, FREE, minimum=0.0, maximum=1.0)


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
    requeue: str = _key(
        "auto", choices=("auto", "native", "exit_code", "chain", "never"), renamed={"scontrol": "native"}
    )


@dataclass
class NodeConfig:
    """One random variable of the graph; the last five fields override the global groups for this node.

    Their keys have the resume classes of those groups.
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
    """A whole run."""

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
