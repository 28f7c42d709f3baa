"""Options that the command line chooses: no key stays that an experiment meant for another `_target_`."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf, flag_override

from framework.compat.hydra import edit_files_before_merging


def prefer_command_line() -> None:
    """Have an option of the command line replace an experiment's own block, in this process.

    Hydra would merge the block over `embedding=mlp`, into one that nobody has asked for.
    """
    edit_files_before_merging(_drop_replaced)


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
