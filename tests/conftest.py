"""What many tests share: programs of a scheduler that replay recorded answers, and how properties are tested."""

import collections
import shutil

import hypothesis
import pytest

# The same examples each time, however long they take: a test result depends on the code, not on chance or load.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True)
hypothesis.settings.load_profile("suite")

TOOLS = ["cat", "cp", "env", "sleep", "touch"]  # what those programs are made of


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Return a function that puts a program on PATH, which prints `answers[arguments]`; the rest fails.

    The machine's own are out of reach.
    """
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    for tool in TOOLS:
        (bin_dir / tool).symlink_to(shutil.which(tool))
    monkeypatch.setenv("PATH", str(bin_dir))

    def put(name, answers=None, script=""):
        cases = "".join(f"{arguments!r}) cat <<'END'\n{text}\nEND\n;;\n" for arguments, text in (answers or {}).items())
        log_call = f'echo "{name} $*" >> {tmp_path}/calls\n'
        body = script or f'case "$*" in\n{cases}*) echo unknown request >&2; exit 1;;\nesac\n'
        (bin_dir / name).write_text(f"#!/bin/sh\n{log_call}{body}")
        (bin_dir / name).chmod(0o755)

    put.calls = lambda: (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
    return put


def pytest_terminal_summary(terminalreporter):
    """Tell how many points of each kind the tests have tried that count them."""
    tried = collections.Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()) if getattr(report, "when", "") == "call" else ():
                if name == "tried":
                    tried[value[0]] += value[1]
    if tried:
        terminalreporter.write_line("tried: " + ", ".join(f"{number} {what}" for what, number in sorted(tried.items())))
