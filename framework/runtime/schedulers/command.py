"""Running a scheduler's commands without ever waiting long for them."""

import os
import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

QUERY_SECONDS = 5.0  # a question whose answer the run can do without
REQUEST_SECONDS = 30.0  # a request that matters: a busy scheduler takes its time
ADDED_VARIABLES = {"SLURM_TIME_FORMAT": "standard", "LC_ALL": "C"}  # to the environment of the commands


@dataclass(frozen=True)
class CommandResult:
    """What a command printed, or the problem with it."""

    text: str
    problem: str = ""


def without_variables(names: Iterable[str]) -> list[str]:
    """Return the beginning of a command that is to run without these variables, nor those added here."""
    return ["env", *(f"--unset={name}" for name in (*names, *ADDED_VARIABLES))]


def run_command(
    *command: str, seconds: float | None = None, stdin: str = "", directory: str | None = None
) -> CommandResult:
    """Run a command for at most `seconds` (`QUERY_SECONDS` if None) in a session without a terminal.

    It reads `stdin` and runs in `directory` (None: the current one).
    """
    name, seconds = command[0], seconds or QUERY_SECONDS
    environment = {**os.environ, **ADDED_VARIABLES}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:  # in a session of its own: Ctrl+C does not reach it, and its children can be killed with it
        process = subprocess.Popen(
            command, env=environment, start_new_session=True, text=True, errors="replace", cwd=directory, **pipes
        )  # type: ignore[call-overload]
    except OSError as error:
        return CommandResult("", f"{name} cannot be run ({error.strerror})")
    try:
        text, errors = process.communicate(stdin, timeout=seconds)
    except subprocess.TimeoutExpired:
        _kill(process)
        return CommandResult("", f"{name} did not answer within {seconds:g} s")
    if process.returncode:
        last_line = f": {errors.strip().splitlines()[-1]}" if errors.strip() else ""
        return CommandResult("", f"{name} failed with exit code {process.returncode}{last_line}")
    return CommandResult(text.strip())


def _kill(process: "subprocess.Popen[str]") -> None:
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    for pipe in (process.stdin, process.stdout, process.stderr):
        with suppress(OSError):
            pipe.close()
    with suppress(subprocess.TimeoutExpired):  # one that hangs in the kernel is left behind
        process.wait(timeout=0.5)
