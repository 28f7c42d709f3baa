"""Command line: show what would change if a run were resumed with another configuration, without starting it."""

import os
import shutil
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import flag_override

from framework.cli import exit_codes, run_command
from framework.config.options import prefer_command_line
from framework.config.overrides import Override, is_override, quoted, recorded
from framework.config.parse import resolve
from framework.config.resume_class import INSTRUCTIONS
from framework.config.target import reason_of
from framework.config.trust import check_targets
from framework.errors import ConfigError, ResumeRefusedError, printable
from framework.paths import CONF_DIR, register_bundle
from framework.rundir.attempts import AttemptRecord, read_attempts

_MAX_SHOWN = 200
_NOT_KEPT = INSTRUCTIONS | {"hydra"}  # for one attempt only; Hydra's part of the configuration is not recorded


def main() -> None:
    """Parse the arguments, compare and print; exit code 3 if the resume would be refused."""
    register_bundle()
    prefer_command_line()
    parser = ArgumentParser(
        prog="python -m framework.diff",
        formatter_class=RawDescriptionHelpFormatter,
        description="Show whether a run could be resumed with a configuration, and what would change.",
        epilog="""\
Other overrides are those of the run's last command; configuration files are read as they are now.

examples:
  python -m framework.diff outputs/two_moons network.hidden_dim=128     what framework.train +resume=true would report
  python -m framework.diff outputs/two_moons                            have the files changed since?
  python -m framework.diff outputs/two_moons outputs/other              compare two runs

exit code: 0 if the run could be resumed, 3 if that would be refused""",
    )
    parser.add_argument("run_dir", help="the directory of the run, such as outputs/two_moons")
    parser.add_argument(
        "others", nargs="*", metavar="KEY=VALUE | RUN_DIR", help="overrides as for framework.train, or another run"
    )
    parser.add_argument("--config-dir", "-cd", help="your own conf directory; default: the run's")
    parser.add_argument("--format", default="text", choices=("text", "json", "markdown"), help="default: text")
    arguments = parser.parse_intermixed_args()
    others = arguments.others
    composed = own_targets = None
    if len(others) != 1 or not _is_run(others[0]):
        run_dir = Path(arguments.run_dir)
        typed_dirs = [arguments.config_dir] if arguments.config_dir else []
        last = read_attempts(run_dir).last or AttemptRecord()
        before = compatible_overrides(others, recorded(last.overrides))
        dirs = typed_dirs or [
            path for path in recorded(last.config_dirs) if Path(path).is_dir()
        ]  # those that still exist
        with _blame_last_command(run_dir, before, dirs):
            composed = _compose([*before, *others], dirs)
        own_targets = partial(_compose_typed_alone, others, typed_dirs)
    with exit_codes():
        _compare(arguments, composed, own_targets)


def _is_run(argument: str) -> bool:
    """Return whether an argument is a run directory and not an override: a sweep's directories contain `=` too."""
    return os.path.isdir(argument) or not is_override(argument)  # noqa: PTH112


def compatible_overrides(typed: list[str], recorded: list[str]) -> list[str]:
    """Return the recorded overrides, except those for one attempt only or in conflict with the typed ones."""
    now = [Override.parse(o) for o in typed]
    before = [Override.parse(o) for o in recorded]
    set_now = {o.path for o in now}
    added = {o.path for o in now if o.prefix == "+"}
    kept = (o for o in before if o.path not in added and not {o.top, o.key.partition("/")[0]} & _NOT_KEPT)
    return [o.text for o in kept if o.prefix != "~" or o.path not in set_now]


@contextmanager
def _blame_last_command(run_dir: Path, before: list[str], config_dirs: list[str]) -> Iterator[None]:
    """Raise `ConfigError` if composition fails because of the last command's overrides, whatever was typed now."""
    try:
        yield
    except Exception:
        try:
            _compose(before, config_dirs)
        except Exception as error:
            shown = printable(" ".join(before))[:_MAX_SHOWN]
            reason = printable(reason_of(error))[:_MAX_SHOWN]
            with exit_codes():
                raise ConfigError(
                    f"{run_dir}: the overrides of its last command ({shown}) do not compose: {reason}"
                ) from error
        raise


def _compose_typed_alone(typed: list[str], config_dirs: list[str]) -> dict[str, Any]:
    """Return the configuration composed from the typed overrides alone, empty if they depend on the run's."""
    try:
        return resolve(_compose(typed, config_dirs))
    except Exception:  # Hydra raises many kinds of errors
        return {}


def _compose(overrides: list[str], config_dirs: list[str]) -> Any:
    """Compose the configuration like framework.train, including Hydra's part."""
    places = [quoted(f"file://{Path(path).resolve()}") for path in config_dirs]
    search = [f"hydra.searchpath=[{','.join(places)}]"] if places else []
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("config", overrides=[*overrides, *search], return_hydra_config=True)


def _compare(arguments: Namespace, composed: Any, own_targets: Callable[[], dict[str, Any]] | None) -> None:
    from framework.resume import compare_runs, diff_format, plan_resume
    from framework.rundir.directory import RunDirectory

    directory = RunDirectory(Path(arguments.run_dir))
    refusal = None
    directory.refuse_links()

    def check(config: Mapping[str, Any]) -> None:
        own = own_targets() if own_targets else {}
        if own.get("trust") is not True:  # the run's own setting of `trust` is ignored
            check_targets(config, own, directory.path)

    if composed is None:
        title, changes, notes = compare_runs(directory, RunDirectory(Path(arguments.others[0])))
        is_refused = any(change.verdict == "refused" for change in changes)
    else:
        hydra = composed.hydra
        with flag_override(composed, ["struct", "readonly"], False):
            del composed["hydra"]
        composed.resume = True
        composed.overwrite = False
        plan = plan_resume(directory, composed, hydra, check)
        if plan.source is None:
            raise ResumeRefusedError(f"{directory.path}: contains no run yet, so there is nothing to compare")
        title = plan.title
        changes = plan.changes
        notes = plan.notes
        refusal = plan.refusal
        is_refused = refusal is not None
    if arguments.format == "text":
        print(diff_format.text(title, changes, notes, width=shutil.get_terminal_size((120, 24)).columns))
    else:
        formatter = diff_format.as_json if arguments.format == "json" else diff_format.markdown
        print(formatter(title, changes, notes))
    if refusal and arguments.format == "text":
        raise refusal
    sys.exit(ResumeRefusedError.exit_code if is_refused else 0)


def command() -> None:
    """Entry point of `framework-diff`."""
    run_command(main)


if __name__ == "__main__":
    command()
