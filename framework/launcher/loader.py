"""Composing the configurations of a long sweep fast: jobs that choose the same files differ in values only."""

import functools
import pickle
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, open_dict

from framework.compat.hydra import apply_values, has_group, override_dirname
from framework.config.overrides import Override


class SweepLoader:
    """A config loader whose `load_sweep_config` reads files once for each choice of them, not for each job.

    Hydra's own takes about 0.1 s for a job, and composes each one twice: the sweeper to check it,
    then the launcher.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self._parser = OverridesParser.create(config_loader=loader)
        self._by_choice: dict[tuple[str, ...], bytes] = {}  # pickled, since that copies fastest
        self._checked: dict[tuple[str, ...], DictConfig] = {}
        self._is_group = functools.cache(functools.partial(has_group, loader))

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Return the configuration of one job, which the sweeper checks; it is kept for `take`."""
        self._checked[tuple(sweep_overrides)] = config = self._compose(master_config, sweep_overrides)
        return config

    def take(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Return the configuration of one job for the launcher, to keep and change."""
        return self._checked.pop(tuple(sweep_overrides), None) or self._compose(master_config, sweep_overrides)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def _compose(self, master_config: DictConfig, overrides: list[str]) -> DictConfig:
        choices = tuple(override for override in overrides if not self._sets_value(override))
        if choices not in self._by_choice:
            self._by_choice[choices] = pickle.dumps(self._loader.load_sweep_config(master_config, list(choices)))
        config = pickle.loads(self._by_choice[choices])
        parsed = self._parser.parse_overrides(overrides)
        apply_values([o for o in parsed if self._sets_value(str(o.input_line))], config)
        task = [override for override in parsed if not override.is_hydra_override()]
        with open_dict(config.hydra):
            config.hydra.overrides.task = [override.input_line for override in task]
            config.hydra.job.override_dirname = override_dirname(task, config)
        return config

    def _sets_value(self, override: str) -> bool:
        """Tell whether the override sets a key rather than choosing a file."""
        parsed = Override.parse(override)
        return parsed.is_value and not self._is_group(parsed.key)
