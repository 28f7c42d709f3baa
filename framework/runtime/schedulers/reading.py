"""One reading of a source, and running the scheduler's commands without ever waiting long for them."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

COMMAND_SECONDS = 5.0
ADDED = {"SLURM_TIME_FORMAT": "standard", "LC_ALL": "C"}  # to the environment of the commands

_UNLIMITED = {"", "-", "NOT_SET", "UNLIMITED", "INFINITE", "INF", "N/A", "NONE", "UNKNOWN", "INVALID"}


@dataclass(frozen=True)
class Reading:
    """A moment in Unix seconds, or None with the reason why the source gives none."""

    source: str  # as people know it: SLURM_JOB_END_TIME, squeue
    text: str  # what it said
    time: float | None
    problem: str = ""  # a whole sentence to warn with, empty where no limit is a fine answer


@dataclass(frozen=True)
class Answer:
    """What a command printed, or the problem with it."""

    text: str
    problem: str = ""


def without(names: Iterable[str]) -> list[str]:
    """Return the beginning of a command that is to run without these variables, nor those added here."""
    return ["env", *(f"--unset={name}" for name in (*names, *ADDED))]


def ask(*command: str, seconds: float | None = None, given: str = "", directory: str | None = None) -> Answer:
    """Run a command for at most so many seconds, `COMMAND_SECONDS` if not told, out of the terminal's reach.

    It reads `given`, and runs in the current directory if not told.
    """
    name, seconds = command[0], seconds or COMMAND_SECONDS
    environment = {**os.environ, **ADDED}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:  # in a session of its own: Ctrl+C is not for it, and its children can be ended with it
        process = subprocess.Popen(
            command, env=environment, start_new_session=True, text=True, errors="replace", cwd=directory, **pipes
        )  # type: ignore[call-overload]
    except OSError as error:
        return Answer("", f"{name} cannot be run ({error.strerror})")
    try:
        text, errors = process.communicate(given, timeout=seconds)
    except subprocess.TimeoutExpired:
        _kill(process)
        return Answer("", f"{name} did not answer within {seconds:g} s")
    if process.returncode:
        last_line = f": {errors.strip().splitlines()[-1]}" if errors.strip() else ""
        return Answer("", f"{name} failed with exit code {process.returncode}{last_line}")
    return Answer(text.strip())


def read(source: str, text: str, convert: Callable[[str], float]) -> Reading:
    """Return the reading of `text`: `convert` raises `ValueError` for what is no time."""
    text = text.strip()
    if text.upper() in _UNLIMITED:
        return Reading(source, text, None)
    try:
        return Reading(source, text, convert(text))
    except (ValueError, OverflowError):
        return Reading(source, text, None, f"{source}: {text[:60]!r} is not a time")


def read_command(source: str, command: Sequence[str], convert: Callable[[str], float]) -> Reading:
    """Return the reading of what a command prints."""
    answer = ask(*command)
    if answer.problem:
        return Reading(source, "", None, answer.problem)
    return read(source, answer.text, convert)


def _kill(process: "subprocess.Popen[str]") -> None:
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    for pipe in (process.stdin, process.stdout, process.stderr):
        with suppress(OSError):
            pipe.close()
    with suppress(subprocess.TimeoutExpired):  # one that hangs in the kernel is left behind
        process.wait(timeout=0.5)
