"""Hydra: the loader that composes configurations, callbacks and results of jobs, and the texts of its errors.

Hydra has plugins for launchers and sweepers, but none to change how files are merged or how errors are shown.
"""

import argparse
import functools
import logging
import os
import re
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, cast

import hydra._internal.hydra
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobRuntime, run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

CHECKED_ON = ("hydra-core==1.3.2", "hydra-core==1.3.8")

Edit = Callable[[list[Any], Mapping[str, int]], None]


def edit_files_before_merging(edit: Edit) -> None:
    """Let Hydra call `edit` with the files of a configuration before it merges them, in this process.

    `edit` gets their contents in merging order, to be changed in place, and a mapping from each key whose file was
    chosen on the command line to the index of that file.
    """
    hydra._internal.hydra.ConfigLoaderImpl = functools.partial(_EditingLoader, edit)  # type: ignore[attr-defined, assignment]


class _EditingLoader(ConfigLoaderImpl):
    """Hydra's loader, except that all files are loaded and edited before the first is merged."""

    def __init__(self, edit: Edit, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._edit = edit

    def _parse_overrides_and_create_caching_repo(self, *args: Any, **kwargs: Any) -> Any:
        parsed, repo = super()._parse_overrides_and_create_caching_repo(*args, **kwargs)
        self._chosen = [override.key_or_group for override in parsed]
        return parsed, repo

    def _compose_config_from_defaults_list(self, defaults: Any, repo: Any) -> DictConfig:
        results = [super(_EditingLoader, self)._load_single_config(default, repo) for default in defaults]
        groups = [str(default.config_path).rpartition("/")[0] for default in defaults]
        chosen = {group.replace("/", "."): groups.index(group) for group in self._chosen if group in groups}
        self._edit([result.config for result in results], chosen)
        self._results = iter(results)
        return super()._compose_config_from_defaults_list(defaults, repo)

    def _load_single_config(self, default: Any, repo: Any) -> Any:
        return next(self._results)


def has_group(loader: ConfigLoader, name: str) -> bool:
    """Tell whether there is a group of this name on the loader's search path."""
    return cast(ConfigLoaderImpl, loader).repository.group_exists(name)


def apply_values(overrides: list[Override], config: DictConfig) -> None:
    """Apply overrides that set keys, and choose no files, to a configuration that is composed."""
    ConfigLoaderImpl._apply_overrides_to_config(overrides, config)


def override_dirname(overrides: list[Override], config: DictConfig) -> str:
    """Return what `hydra.job.override_dirname` is for these overrides."""
    names = config.hydra.job.config.override_dirname
    return get_overrides_dirname(
        overrides=overrides, kv_sep=names.kv_sep, item_sep=names.item_sep, exclude_keys=names.exclude_keys
    )


@contextmanager
def current_config(config: DictConfig) -> Iterator[None]:
    """Let `${hydra:...}` refer to this configuration."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().cfg = cast(Any, config)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


def run_task(task: TaskFunction, config: DictConfig) -> None:
    """Run the task in the run directory of a composed configuration, as launchers do; raises what the task raises."""
    JobRuntime.instance().set("name", config.hydra.job.name)
    returned = run_job(
        task_function=getattr(task, "__wrapped__", task),  # without hydra.main, which would compose once more
        config=config,
        job_dir_key="hydra.runtime.output_dir",
        job_subdir_key=None,
        hydra_context=HydraContext(config_loader=cast(Any, None), callbacks=Callbacks(config)),
    )
    _ = returned.return_value


def error_of(returned: JobReturn) -> Exception:
    """Return the error of a job that failed; `return_value` would raise it, and print the overrides."""
    return cast(Exception, returned._return_value)


def show_option_errors(show: Callable[[str], NoReturn]) -> None:
    """Call `show`, which ends the process, for a wrong option; Hydra's own parser would list all options."""
    ArgumentParser.error = lambda parser, message: show(message)  # type: ignore[method-assign, assignment]


def raise_errors() -> None:
    """Let Hydra raise errors; otherwise it prints them and always exits with code 1."""
    os.environ["HYDRA_FULL_ERROR"] = "1"


def log_no_failed_imports() -> None:
    """Keep `hydra.utils` from logging failed imports, which it raises as well."""
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)


def rerun_of(arguments: Sequence[str]) -> str | None:
    """Return the pickled configuration that `--experimental-rerun` names: Hydra then takes no overrides."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--experimental-rerun")
    path: str | None = parser.parse_known_args(arguments)[0].experimental_rerun
    return path


def unknown_key(message: str) -> str | None:
    """Return the key that Hydra could not override or delete, if that is what the message says."""
    match = re.match(r"Could not (override|delete from config\.) '([^']+)'", message)
    return match[2] if match else None


def unknown_option(message: str) -> tuple[str, str, list[str]] | None:
    """Return group, option and the valid options if the message says that there is no such option."""
    match = re.search(r"Could not find '(.+)/([^/]+)'", message.partition("\n")[0])
    if not match:
        return None
    listed = message.partition("Available options")[2].partition("Config search")[0]
    return match[1], match[2], re.findall(r"^\t(\S+)$", listed, re.MULTILINE)


def is_value_for_group(error: Exception) -> bool:
    """Tell whether a group was set to something other than the name of an option."""
    return isinstance(error, ValueError) and "Config group override" in str(error)
