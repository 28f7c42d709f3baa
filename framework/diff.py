"""Command line: what would change if a run went on with another configuration, without starting anything."""

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
_NOT_KEPT = INSTRUCTIONS | {"hydra"}  # said to one attempt; a run records nothing of Hydra's own part


def main() -> None:
    """Parse the arguments, compare and print; exit code 3 if the resume would be refused."""
    register_bundle()
    prefer_command_line()
    parser = ArgumentParser(
        prog="python -m framework.diff",
        formatter_class=RawDescriptionHelpFormatter,
        description="Tell whether a run could go on with a configuration, and what would change.",
        epilog="""\
What is not typed is as the run's last command had it, composed of the configuration files as they are now.

examples:
  python -m framework.diff outputs/two_moons network.hidden_dim=128     what framework.train +resume=true would say
  python -m framework.diff outputs/two_moons                            have the files changed since?
  python -m framework.diff outputs/two_moons outputs/other              one run against another

exit code: 0 if the run could go on, 3 if it would be refused""",
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
        before = kept_beside(others, recorded(last.overrides))
        dirs = typed_dirs or [path for path in recorded(last.config_dirs) if Path(path).is_dir()]  # those still there
        with _explained(run_dir, before, dirs):
            composed = _compose([*before, *others], dirs)
        own_targets = partial(_composed_alone, others, typed_dirs)
    with exit_codes():
        _compare(arguments, composed, own_targets)


def _is_run(argument: str) -> bool:
    """Tell a run directory from an override: those of a sweep have `=` in their names, too."""
    return os.path.isdir(argument) or not is_override(argument)  # noqa: PTH112


def kept_beside(typed: list[str], recorded: list[str]) -> list[str]:
    """Return the recorded overrides without what was said to one attempt, or would not compose with those typed."""
    now, before = [Override.parse(o) for o in typed], [Override.parse(o) for o in recorded]
    set_now, added = {o.path for o in now}, {o.path for o in now if o.prefix == "+"}
    kept = (o for o in before if o.path not in added and not {o.top, o.key.partition("/")[0]} & _NOT_KEPT)
    return [o.text for o in kept if o.prefix != "~" or o.path not in set_now]


@contextmanager
def _explained(run_dir: Path, before: list[str], config_dirs: list[str]) -> Iterator[None]:
    """Say so where it is the overrides of the run's last command that do not compose, whatever was typed now."""
    try:
        yield
    except Exception:
        try:
            _compose(before, config_dirs)
        except Exception as error:
            what, reason = printable(" ".join(before))[:_MAX_SHOWN], printable(reason_of(error))[:_MAX_SHOWN]
            with exit_codes():
                raise ConfigError(
                    f"{run_dir}: what its last command was told ({what}) does not compose: {reason}"
                ) from error
        raise


def _composed_alone(typed: list[str], config_dirs: list[str]) -> dict[str, Any]:
    """Return what is composed of the user's own words, nothing where they need those of the run."""
    try:
        return resolve(_compose(typed, config_dirs))
    except Exception:  # whatever Hydra raises
        return {}


def _compose(overrides: list[str], config_dirs: list[str]) -> Any:
    """Compose as framework.train does, Hydra's own part included."""
    places = [quoted(f"file://{Path(path).resolve()}") for path in config_dirs]
    search = [f"hydra.searchpath=[{','.join(places)}]"] if places else []
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("config", overrides=[*overrides, *search], return_hydra_config=True)


def _compare(arguments: Namespace, composed: Any, own_targets: Callable[[], dict[str, Any]] | None) -> None:
    from framework.resume import compare_runs, diff_format, plan_resume
    from framework.rundir.directory import RunDirectory

    directory, refusal = RunDirectory(Path(arguments.run_dir)), None
    directory.refuse_links()

    def check(config: Mapping[str, Any]) -> None:
        own = own_targets() if own_targets else {}
        if own.get("trust") is not True:  # what the run says of itself counts for nothing
            check_targets(config, own, directory.path)

    if composed is None:
        result = compare_runs(directory, RunDirectory(Path(arguments.others[0])))
        is_refused = any(change.verdict == "refused" for change in result[1])
    else:
        hydra = composed.hydra
        with flag_override(composed, ["struct", "readonly"], False):
            del composed["hydra"]
        composed.resume, composed.overwrite = True, False
        plan = plan_resume(directory, composed, hydra, check)
        if plan.source is None:
            raise ResumeRefusedError(f"{directory.path}: holds no run yet, so that nothing can be compared")
        result, refusal = (plan.title, plan.changes, plan.notes), plan.refusal
        is_refused = refusal is not None
    if arguments.format == "text":
        print(diff_format.text(*result, width=shutil.get_terminal_size((120, 24)).columns))
    else:
        print({"json": diff_format.as_json, "markdown": diff_format.markdown}[arguments.format](*result))
    if refusal and arguments.format == "text":
        raise refusal
    sys.exit(ResumeRefusedError.exit_code if is_refused else 0)


def command() -> None:
    """Run as `framework-diff`."""
    run_command(main)


if __name__ == "__main__":
    command()
