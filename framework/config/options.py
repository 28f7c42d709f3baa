"""Options that the command line chooses: no key stays that an experiment meant for another `_target_`."""

from collections.abc import Mapping
from typing import Any

import hydra._internal.hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf, flag_override


def prefer_command_line() -> None:
    """Have Hydra compose as `OptionLoader` does, in this process."""
    hydra._internal.hydra.ConfigLoaderImpl = OptionLoader  # type: ignore[attr-defined]


class OptionLoader(ConfigLoaderImpl):
    """Hydra's loader, except that an option of the command line replaces an experiment's own block.

    Hydra would merge the block over `embedding=mlp`, into one that nobody has asked for.
    """

    def _parse_overrides_and_create_caching_repo(self, *args: Any, **kwargs: Any) -> Any:
        parsed, repo = super()._parse_overrides_and_create_caching_repo(*args, **kwargs)
        self._chosen = [override.key_or_group for override in parsed]
        return parsed, repo

    def _compose_config_from_defaults_list(self, defaults: Any, repo: Any) -> DictConfig:
        results = [super(OptionLoader, self)._load_single_config(default, repo) for default in defaults]
        groups = [str(default.config_path).rpartition("/")[0] for default in defaults]
        chosen = {group.replace("/", "."): groups.index(group) for group in self._chosen if group in groups}
        _drop_replaced([result.config for result in results], chosen)
        self._results = iter(results)
        return super()._compose_config_from_defaults_list(defaults, repo)

    def _load_single_config(self, default: Any, repo: Any) -> Any:
        return next(self._results)


def _drop_replaced(files: list[Any], chosen: Mapping[str, int]) -> None:
    """Remove the blocks at each key that the command line has chosen a file for, in all other files with a target."""
    for key, winner in chosen.items():
        for number, file in enumerate(files):
            if number != winner and OmegaConf.select(file, f"{key}._target_") is not None:
                _delete(file, key)


def _delete(file: DictConfig, key: str) -> None:
    parent, _, name = key.rpartition(".")
    holder = OmegaConf.select(file, parent) if parent else file
    if isinstance(holder, DictConfig) and name in holder:
        with flag_override(holder, ["struct", "readonly"], False):
            del holder[name]
