"""Functions shared by all commands: one-line messages for user errors, and the documented exit codes."""

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, OverrideParseException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from framework.compat import hydra as compat_hydra
from framework.config.overrides import Override, is_override, last_of
from framework.config.run_location import check_directory
from framework.config.target import suggest
from framework.environment_variables import SHOW_TRACEBACK
from framework.errors import ConfigError, FrameworkError, disk_advice, printable
from framework.files import TRANSIENT
from framework.imports import missing_package
from framework.new_directories import NewDirectories, refuse_links
from framework.paths import CONF_DIR, work_in
from framework.streams import outlive_terminal

_new_directories: list[NewDirectories] = []


class Preflight(Callback):
    """Hydra callback, called just before it creates the directory of the run or the sweep."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the run's directory; new directories are removed later if the run leaves nothing in them."""
        self._begin(config, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the sweep's directory likewise."""
        self._begin(config, "hydra.sweep.dir")

    def _begin(self, config: DictConfig, key: str) -> None:
        with exit_codes():  # Hydra only warns about errors in callbacks
            path = check_directory(config, key)
            refuse_links(path, config.hydra.job.name, config.hydra.output_subdir)
            _new_directories.append(NewDirectories(path, config.hydra.output_subdir))


def run_command(main: Callable[[], Any]) -> None:
    """Run a Hydra `main`; a mistake in the command line becomes one message and exit code 2."""
    outlive_terminal()
    work_in(Path.cwd())
    show_traceback = os.environ.get(SHOW_TRACEBACK) == "1"
    compat_hydra.show_option_errors(_refuse_option)
    sys.argv[1:] = options_first(sys.argv[1:])
    compat_hydra.raise_errors()
    try:
        main()
    except KeyboardInterrupt:
        print("\n⚠ Interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:  # from Hydra's composition; errors of jobs are handled by `exit_codes`
        if show_traceback:
            traceback.print_exc()
        if isinstance(error, FrameworkError):  # from a launcher
            _print_error(error)
            sys.exit(error.exit_code)
        _print_error(missing_package(error) or explain_composition(error, sys.argv[1:]))
        sys.exit(ConfigError.exit_code)
    finally:
        for directories in _new_directories:
            directories.remove_if_unused()


def _print_error(message: object) -> None:
    """Print an error message, with very long values shortened and control characters escaped."""
    text = re.sub(r"\S{300,}", lambda match: f"{match[0][:100]}…{match[0][-30:]}", str(message))
    print("✗", "\n".join(map(printable, text.split("\n"))), file=sys.stderr)


def _refuse_option(message: str) -> NoReturn:
    """Report a wrong option in one line, without argparse's list of all options."""
    _print_error(f"{message}; see --help")
    sys.exit(ConfigError.exit_code)


def options_first(arguments: list[str]) -> list[str]:
    """Move options before the overrides: Hydra's parser refuses overrides on both sides of an option."""
    overrides = [a for a in arguments if is_override(a) and not os.path.exists(a)]  # noqa: PTH110
    return [a for a in arguments if a not in overrides] + overrides


@contextmanager
def exit_codes() -> Iterator[None]:
    """Exit the process with the documented exit code for any error that the block raises.

    Errors that the user can fix are shown as their message only, others with a traceback.
    """
    show_traceback = os.environ.get(SHOW_TRACEBACK) == "1"
    try:
        yield
    except FrameworkError as error:
        if show_traceback:
            traceback.print_exc()
        _print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("\n⚠ Interrupted; committed work is kept: resume it with +resume=true", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            _print_error(f"{error.filename}: {error.strerror}")
            sys.exit(ConfigError.exit_code)
        advice = disk_advice(error) or ("check the file system" if error.errno in TRANSIENT else None)
        if advice is None or show_traceback:
            traceback.print_exc()
        if advice:
            where = f"{error.filename}: " if error.filename else ""
            hint = "then resume with +resume=true: committed work is kept"
            print(f"✗ {where}{error.strerror}; {advice}, {hint}", file=sys.stderr)
        sys.exit(FrameworkError.exit_code)
    except Exception as error:
        missing = missing_package(error)
        if missing is None or show_traceback:
            traceback.print_exc()
        if missing:
            _print_error(missing)
            sys.exit(ConfigError.exit_code)
        sys.exit(FrameworkError.exit_code)


def explain_composition(error: Exception, overrides: list[str]) -> str:
    """Return Hydra's error about the command line as one line, with the nearest valid key or option."""
    message = str(error).strip() or type(error).__name__
    typed = [override for override in overrides if not override.startswith("-")]
    parsed = [Override.parse(override) for override in typed]
    first = message.splitlines()[0]
    if isinstance(error, AssertionError) and (verbose := last_of(overrides, "hydra.verbose")):
        return f"{verbose}: expected true, false, or the names of the loggers to set to debug level"
    if path := compat_hydra.rerun_of(overrides):
        return f"--experimental-rerun={path}: {first} Expected a config.pickle written by PickleJobInfoCallback"
    if isinstance(error, OSError) and error.filename:
        places = [last_of(overrides, f"hydra.{key}") for key in ("run.dir", "sweep.dir", "sweep.subdir")]
        given = next(filter(None, places), "name")
        return f"{given}: {error.filename}: {error.strerror}; choose another directory"
    if key := compat_hydra.unknown_key(message):
        given = next((o.text for o in parsed if o.name == key and o.prefix in ("", "~")), key)
        return f"{given}: no such key{suggest(key, _valid_keys(overrides)) or '; see --help'}"
    if unknown := compat_hydra.unknown_option(message):
        group, option, options = unknown
        may_be_own = group == "experiment" and "--config-dir" not in sys.argv
        own = " (for your own, add --config-dir conf)" if may_be_own else ""
        return f"{group}={option}: expected one of {', '.join(options)}{own}{suggest(option, options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read; expected KEY=VALUE (quote lists and spaces: 'KEY=[1,2]')"
    if compat_hydra.is_value_for_group(error):
        return f"{_faulty_override(first, typed)}: expected the name of one of the group's options, such as network=maf"
    text = " ".join(line.strip() for line in message.splitlines() if "hydra.cc" not in line)
    is_named = any(o.text in text or ("." in o.name and o.name in text) for o in parsed)
    return text if is_named else f"{_faulty_override(first, typed)}: {text}"


def _faulty_override(message: str, overrides: list[str]) -> str:
    """Return the override that causes this error by itself, or else all of them."""
    for override in overrides:
        try:
            _compose([override])
        except Exception as error:
            if str(error).strip().startswith(message):
                return override
    return " ".join(overrides)


def _valid_keys(overrides: list[str]) -> list[str]:
    """Return every key of the configuration composed from the overrides' group choices."""
    parsed = [Override.parse(override) for override in overrides]
    for choices in ([o.text for o in parsed if o.is_choice], []):
        try:
            return list(_flatten(OmegaConf.to_container(_compose(choices)), ""))
        except (HydraException, ValueError):
            continue
    return []


def _compose(overrides: list[str]) -> DictConfig:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("config", overrides=overrides, return_hydra_config=True)


def _flatten(value: Any, prefix: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield f"{prefix}{name}"
            yield from _flatten(item, f"{prefix}{name}.")
