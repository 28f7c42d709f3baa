"""Identity and start time of this process, and whether another process is still running."""

import functools
import os
import socket
import time
from pathlib import Path


def process_start() -> float:
    """Return the start time of this process in Unix seconds; imports have already used part of the budget."""
    try:
        up = time.clock_gettime(time.CLOCK_BOOTTIME) - float(_stat(os.getpid())[19]) / os.sysconf("SC_CLK_TCK")
        return time.time() - max(up, 0.0)
    except (OSError, ValueError, IndexError, AttributeError):  # not Linux
        return time.time() - time.process_time()


@functools.cache
def machine() -> str:
    """Return the machine, its boot id and its pid namespace: if these are equal, so is the meaning of a pid."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return socket.gethostname()


def birth(pid: int) -> str | None:
    """Return what distinguishes a process from later ones with the same pid, "unknown", or None if it has ended."""
    try:
        fields = _stat(pid)
        return None if fields[0] in "ZX" else fields[19]  # a zombie has ended
    except (OSError, IndexError):  # not Linux, or hidden because it is another user's
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat, starting with the third, the state."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
