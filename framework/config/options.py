"""Options chosen on the command line: they replace an experiment's own block instead of being merged with it."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf, flag_override

from framework.compat.hydra import edit_files_before_merging


def prefer_command_line() -> None:
    """Let options on the command line replace an experiment's own block, in this process.

    Hydra would merge the block into `embedding=mlp`: arguments of one class with the `_target_` of another.
    """
    edit_files_before_merging(_drop_replaced)


def _drop_replaced(files: list[Any], chosen: Mapping[str, int]) -> None:
    """For each key whose file the command line chose, remove the blocks with a `_target_` from all other files."""
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
