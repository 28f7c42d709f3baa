"""Which process this is, when it began, and whether another one is still there."""

import functools
import os
import socket
import time
from pathlib import Path


def process_start() -> float:
    """Return when this process started, in Unix seconds; imports have taken seconds of the budget."""
    try:
        up = time.clock_gettime(time.CLOCK_BOOTTIME) - float(_stat(os.getpid())[19]) / os.sysconf("SC_CLK_TCK")
        return time.time() - max(up, 0.0)
    except (OSError, ValueError, IndexError, AttributeError):  # not Linux
        return time.time() - time.process_time()


@functools.cache
def machine() -> str:
    """Name the machine, its boot and the namespace of its process ids: where these are equal, ids mean the same."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return socket.gethostname()


def birth(pid: int) -> str | None:
    """Return what tells a process of this machine from later ones with its id, "unknown", or None if it is gone."""
    try:
        fields = _stat(pid)
        return None if fields[0] in "ZX" else fields[19]  # a zombie does nothing any more
    except (OSError, IndexError):  # not Linux, or somebody else's and hidden
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat from the third, the state, on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
