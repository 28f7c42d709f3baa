"""Composing blocks with a `_target_` whole: no key stays that was meant for another target."""

from collections.abc import Iterator, Mapping
from typing import Any

import hydra._internal.hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf, flag_override


def compose_blocks_whole() -> None:
    """Have Hydra compose as `BlockLoader` does, in this process."""
    hydra._internal.hydra.ConfigLoaderImpl = BlockLoader  # type: ignore[attr-defined]


class BlockLoader(ConfigLoaderImpl):
    """Hydra's loader, except where two files set the `_target_` of one block.

    Hydra merges them key by key. Here the later one replaces the earlier if its `_target_` is another, and an option
    that the command line chooses (`embedding=mlp`) replaces what an experiment's own block would make of it.
    """

    def _parse_overrides_and_create_caching_repo(self, *args: Any, **kwargs: Any) -> Any:
        parsed, repo = super()._parse_overrides_and_create_caching_repo(*args, **kwargs)
        self._chosen = [override.key_or_group for override in parsed]
        return parsed, repo

    def _compose_config_from_defaults_list(self, defaults: Any, repo: Any) -> DictConfig:
        results = [super(BlockLoader, self)._load_single_config(default, repo) for default in defaults]
        groups = [str(default.config_path).rpartition("/")[0] for default in defaults]
        chosen = {group.replace("/", "."): groups.index(group) for group in self._chosen if group in groups}
        _drop_replaced([result.config for result in results], chosen)
        self._results = iter(results)
        return super()._compose_config_from_defaults_list(defaults, repo)

    def _load_single_config(self, default: Any, repo: Any) -> Any:
        return next(self._results)


def _drop_replaced(files: list[Any], chosen: Mapping[str, int]) -> None:
    """Remove each block that another file's replaces; `chosen` tells which file the command line wants at a key."""
    targets: dict[str, dict[int, Any]] = {}  # by key, then by file
    for number, file in enumerate(files):
        for key, target in _targets(OmegaConf.to_container(file, resolve=False), ""):
            targets.setdefault(key, {})[number] = target
    for key, by_file in targets.items():
        winner = chosen[key] if chosen.get(key) in by_file else max(by_file)
        for number, target in by_file.items():
            if number != winner and (key in chosen or target != by_file[winner]):
                _delete(files[number], key)


def _targets(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield the key and `_target_` of every block."""
    if isinstance(value, Mapping):
        if "_target_" in value and key:
            yield key, value["_target_"]
        for name, item in value.items():
            yield from _targets(item, f"{key}.{name}" if key else str(name))


def _delete(file: DictConfig, key: str) -> None:
    parent, _, name = key.rpartition(".")
    holder = OmegaConf.select(file, parent) if parent else file
    if isinstance(holder, DictConfig) and name in holder:
        with flag_override(holder, ["struct", "readonly"], False):
            del holder[name]
