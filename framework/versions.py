"""Which code is running: versions, and the commit of the working directory."""

import platform
import subprocess
from importlib.metadata import version

from framework import __version__


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {"framework": __version__, "torch": version("torch"), "python": platform.python_version()}


def git_commit() -> str | None:
    """Return the commit of the working directory, with `+` appended where files differ from it."""
    try:
        git = ["git", "describe", "--always", "--abbrev=40", "--dirty=+"]
        return subprocess.run(git, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
