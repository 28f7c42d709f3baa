"""The running code's versions, and the commit of the working directory."""

import platform
import subprocess
from importlib.metadata import version

from framework import __version__


def versions() -> dict[str, str]:
    """Return the versions on which results depend."""
    return {"framework": __version__, "torch": version("torch"), "python": platform.python_version()}


def git_commit() -> str | None:
    """Return the commit of the working directory, with `+` appended if files differ from it."""
    try:
        git = ["git", "describe", "--always", "--abbrev=40", "--dirty=+"]
        return subprocess.run(git, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
