"""The settings of the launchers and the sweeper: every key, its type and limits; durations are parsed to seconds."""

import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING, OmegaConf

from framework.config.parse import parse_group
from framework.errors import ConfigError

_MEMORY = (r"\d+([KMGT]B?)?", "a size such as 16G")
_GPUS = (r"([\w.-]+:)?\d+(,([\w.-]+:)?\d+)*", "a number of GPUs, or a kind and a number such as a100:2")


def _key(default: Any = None, **metadata: Any) -> Any:
    """Declare a field; see `framework.config.schema`. `pattern` is a regular expression and what it describes."""
    return field(default=default, metadata=metadata)


@dataclass
class LauncherConfig:
    """The settings of both launchers."""

    time: float | None = _key(duration=True)
    signal_lead: float = _key(120.0, duration=True)
    tasks_per_node: int = _key(1, minimum=1)
    setup: list[str] = field(default_factory=list)
    retry_failed: bool = False


@dataclass
class LocalConfig(LauncherConfig):
    """`hydra/launcher=slurm_local`."""

    num_parallel: int = _key(2, minimum=1)


@dataclass
class SlurmConfig(LauncherConfig):
    """`hydra/launcher=slurm`: the options of sbatch under their own names, and these.

    `signal_lead` is how long before the limit the job is told to save, `container_prefix` what is
    put before the Python command, `teardown` what the batch script does after it.
    """

    time: float = _key(MISSING, duration=True, above=0.0)
    job_name: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    reservation: str | None = None
    nodes: int = _key(1, minimum=1)
    cpus_per_task: int | None = _key(minimum=1)
    mem: str | None = _key(pattern=_MEMORY)
    mem_per_cpu: str | None = _key(pattern=_MEMORY)
    mem_per_gpu: str | None = _key(pattern=_MEMORY)
    gres: str | None = None
    gpus: str | None = _key(pattern=_GPUS)
    gpus_per_node: str | None = _key(pattern=_GPUS)
    gpus_per_task: str | None = _key(pattern=_GPUS)
    cpus_per_gpu: int | None = _key(minimum=1)
    constraint: str | None = None
    nodelist: str | None = None
    exclude: str | None = None
    exclusive: bool = False
    dependency: str | None = None
    mail_type: str | None = None
    mail_user: str | None = None
    comment: str | None = None
    additional_parameters: dict[str, Any] = field(default_factory=dict)
    srun_args: list[str] = field(default_factory=list)
    teardown: list[str] = field(default_factory=list)
    container_prefix: str | None = None
    python: str | None = None
    array_parallelism: int = _key(100, minimum=1)
    wait: bool = True


@dataclass
class StudyConfig:
    """`hydra/sweeper=study`; `n_jobs` trials at once are proposed and run, until `n_trials` have ended."""

    n_trials: int = _key(20, minimum=1)
    n_jobs: int = _key(2, minimum=1)
    sampler: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)


def parse_study(settings: Mapping[str, Any]) -> StudyConfig:
    """Return the settings of the sweeper; raises `ConfigError` that names the key."""
    plain = OmegaConf.to_container(OmegaConf.create(dict(settings)), resolve=True)
    return parse_group(StudyConfig, typing.cast(dict[str, Any], plain), "hydra.sweeper")


def parse_launcher(kind: type[LauncherConfig], settings: Mapping[str, Any]) -> Any:
    """Return the settings as `kind`; raises `ConfigError` that names the key."""
    hints = typing.get_type_hints(kind)
    texts = {key for key, hint in hints.items() if hint == str | None}
    plain = typing.cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(dict(settings)), resolve=True))
    values = {k: str(v) if k in texts and _is_number(v) else v for k, v in plain.items()}
    config = parse_group(kind, values, "hydra.launcher")
    for name, declared in kind.__dataclass_fields__.items():
        value = getattr(config, name)
        pattern, meaning = declared.metadata.get("pattern", ("", ""))
        if pattern and value is not None and not re.fullmatch(pattern, value):
            raise ConfigError(f"hydra.launcher.{name}={value}: expected {meaning}")
    if config.time is not None and config.time <= config.signal_lead:
        raise ConfigError(
            f"hydra.launcher.signal_lead={config.signal_lead:g}s: expected less than hydra.launcher.time="
            f"{config.time:g}s; a bare number is in seconds"
        )
    return config


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
