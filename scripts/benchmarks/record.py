"""Publishes a benchmark: `scripts/bench NAME ... --record` comes here.

The benchmark runs as always. If it succeeds, what it prints to stdout, its table, replaces the section of its name in
`README.md` beside this file, with the date, the machine, the versions and the command. All that it prints, with what
goes to stderr, is kept in `records/<date>-<name>.log`. If it fails, nothing is written.
"""

import datetime
import os
import platform
import re
import shlex
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE = HERE / "README.md"
PACKAGES = ("torch", "zuko", "numpy", "hydra-core", "submitit")


def run(command: list[str]) -> tuple[int, str, str]:
    """Run and show a command; return its exit code, its stdout, and stdout and stderr as they came."""
    table: list[str] = []
    everything: list[str] = []

    def copy(source: IO[str], shown: IO[str], *kept: list[str]) -> None:
        for line in source:
            print(line, end="", file=shown, flush=True)
            for lines in kept:
                lines.append(line)

    variables = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stderr
    errors = threading.Thread(target=copy, args=(process.stderr, sys.stderr, everything))
    errors.start()
    copy(process.stdout, sys.stdout, table, everything)
    errors.join()
    return process.wait(), anonymous("".join(table)), anonymous("".join(everything))


def anonymous(text: str) -> str:
    """Return a text without the paths of this machine: where the project lies, and the user's home."""
    return text.replace(f"{ROOT}/", "").replace(str(ROOT), ".").replace(str(Path.home()), "~")


def machine() -> str:
    """Return the number of cores and the processor's name, which is the same on all machines of a kind."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return f"{os.cpu_count()} cores, {found[1] if found else platform.processor() or platform.machine()}"


def commit() -> str:
    """Return the commit of the project, with `+` appended where files differ from it."""
    git = ["git", "describe", "--always", "--abbrev=10", "--exclude=*", "--dirty=+"]
    result = subprocess.run(git, cwd=ROOT, capture_output=True, text=True)
    return f"commit {result.stdout.strip()}" if result.returncode == 0 else "no commit"


def section(name: str, command: str, date: str, table: str) -> str:
    """Return what the page says of one benchmark."""
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    heading = f"{date} · {machine()} · Python {platform.python_version()}, {versions} · {commit()}"
    return (
        f"## {name}\n\n{heading} · [raw log](records/{date}-{name}.log)\n\n    {command}\n\n```\n{table.strip()}\n```\n"
    )


def replace_section(page: str, name: str, text: str) -> str:
    """Return the page with another section of this name, at its place, or at the end where there was none."""
    head, *sections = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    names = [part.split("\n", 1)[0].removeprefix("## ") for part in sections]
    if name in names:
        sections[names.index(name)] = text
    else:
        sections.append(text)
    return "\n".join(part.strip() + "\n" for part in (head, *sections))


def main() -> None:
    name, *arguments = (argument for argument in sys.argv[1:] if argument != "--record")
    exit_code, table, everything = run([sys.executable, str(HERE / f"{name}.py"), *arguments])
    if exit_code or not table.strip():
        sys.exit(exit_code or f"{name} has printed no table; nothing is recorded")
    date = datetime.datetime.now().astimezone().date().isoformat()
    command = anonymous(shlex.join(["scripts/bench", name, *arguments]))
    log = HERE / "records" / f"{date}-{name}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text(f"$ {command}\n{everything}")
    PAGE.write_text(replace_section(PAGE.read_text(), name, section(name, command, date, table)))
    print(f"recorded in {PAGE.relative_to(ROOT)} and {log.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)  # the benchmark got it, too
