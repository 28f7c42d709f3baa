"""The parent of a local job's processes: submitit's, but for the number of requeues, which has no limit."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from submitit.local import local

from framework.environment import REQUEUED

_RESUMABLE = 99


class Controller(local.Controller):
    """Remembers that it was told to stop: as it starts a process, or between two, there is none to tell it to."""

    def __init__(self, folder: Path) -> None:
        self.is_told = False
        super().__init__(folder)

    def _forward_signal(self, signum: Any, *args: Any) -> None:
        self.is_told |= signum == signal.SIGTERM
        super()._forward_signal(signum)

    def start_tasks(self) -> None:
        """Start the processes, unless the job is to stop."""
        if self.is_told:
            sys.exit(_RESUMABLE)
        super().start_tasks()
        os.environ[REQUEUED] = "1"  # for those that are started after these
        if self.is_told:
            super()._forward_signal(signal.SIGTERM)


if __name__ == "__main__":
    Controller(Path(sys.argv[1])).run(max_retry=sys.maxsize)
