"""The parent of a local job's processes: submitit's, except that the number of requeues has no limit."""

import os
import signal
import sys
from pathlib import Path

from framework.compat.submitit import ForwardingController
from framework.environment_variables import REQUEUED

_RESUMABLE = 99


class Controller(ForwardingController):
    """Remembers that it was told to stop: while it starts a process, there is none to pass the signal to."""

    def __init__(self, folder: Path) -> None:
        self.is_told = False
        super().__init__(folder)

    def forward(self, number: int) -> None:
        """Pass a signal on to the processes of the job."""
        self.is_told |= number == signal.SIGTERM
        super().forward(number)

    def start_tasks(self) -> None:
        """Start the processes, unless the job is to stop."""
        if self.is_told:
            sys.exit(_RESUMABLE)
        super().start_tasks()
        os.environ[REQUEUED] = "1"  # for those that are started after these
        if self.is_told:
            super().forward(signal.SIGTERM)


if __name__ == "__main__":
    Controller(Path(sys.argv[1])).run(max_retry=sys.maxsize)
