"""When this process began."""

import os
import time
from pathlib import Path


def process_start() -> float:
    """Return when this process started, in Unix seconds; imports have taken seconds of the budget."""
    try:
        ticks = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        up = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        return time.time() - max(up, 0.0)
    except (OSError, ValueError, IndexError, AttributeError):  # not Linux
        return time.time() - time.process_time()
