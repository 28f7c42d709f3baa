"""The process that brings `metrics.jsonl` to W&B: `python -m framework.tracking.wandb_mirror`.

Each line of its standard input says that there is more to send, and its end that the attempt is over.
"""

import functools
import json
import os
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from framework.compat.environment import quiet_wandb
from framework.files import open_to_read
from framework.rundir.metric_lines import METRICS_FILE, parse_line
from framework.tracking.wandb_ledger import Ledger
from framework.tracking.wandb_run import WandbRun

_RETRY_SECONDS = 30.0
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}


class Mirror:
    """Sends what is in the run directory and not yet at W&B, again and again until the attempt is over."""

    def __init__(self, run_dir: Path, project: str, entity: str | None, mode: str, finish_seconds: float) -> None:
        self._open = functools.partial(WandbRun, run_dir, project, entity, mode, finish_seconds)
        self._ledger = Ledger(run_dir / "wandb")
        self._rows = _Tail(run_dir / METRICS_FILE)
        self._global_steps: dict[str, int] = {}
        self._run: WandbRun | None = None
        self._can_rewind = mode == "online"
        self._finish_seconds = finish_seconds
        self._retry_at = 0.0
        self._has_warned = False

    def follow(self) -> None:
        """Send what there is whenever the training says so, and at its end."""
        while _more_to_send():
            self._try(self._send)
        threading.Timer(self._finish_seconds + 1, self._give_up).start()  # no server may keep this process alive
        for _ in range(2):  # the first may find that the SDK's process was killed by the signal that ended the training
            self._retry_at = 0.0
            if self._try(self._send_all):
                break
        os._exit(0)  # what the SDK would wait for now has had its time

    def _give_up(self) -> None:
        self._warn("not all was sent in time")
        os._exit(1)

    def _try(self, send: Callable[[], object]) -> bool:
        """Tell whether `send` did not fail; after a failure it is left alone for a while."""
        if time.monotonic() < self._retry_at:
            return False
        try:
            send()
            return True
        except Exception as error:  # whatever the SDK meets, the training does not
            self._run, self._retry_at = None, time.monotonic() + _RETRY_SECONDS
            self._warn((str(error) or type(error).__name__).splitlines()[0])
            return False

    def _warn(self, reason: str) -> None:
        if not self._has_warned:
            text = f"⚠ W&B: {reason}; metrics.jsonl has everything, what is missing is sent by the next attempt"
            print(text, file=sys.stderr, flush=True)
        self._has_warned = True

    def _send_all(self) -> None:
        run = self._send()
        if (digest := run.report_digest()) and not self._ledger.has(line := _report_line(digest)):
            run.log_report(self._ledger.num_lines)
            self._ledger.add(line)
        run.finish()
        self._ledger.settle(run.segment)

    def _send(self) -> WandbRun:
        run = self._run or self._begin(None)
        while (found := self._rows.next()) is not None:
            if (row := parse_line(found)) is None:
                continue  # damaged, which the tracker that writes the file tells of
            line = json.dumps(row)  # without the check that ties it to the lines before it
            self._global_steps[row["node"]] = row["step"]
            number = self._ledger.stale(line)
            if number and self._can_rewind:
                run = self._rewind(run, number)
            elif not self._ledger.has(line):
                run.log(row, sum(self._global_steps.values()), self._ledger.num_lines)
                self._ledger.add(line)
        return run

    def _begin(self, rewind_to: int | None) -> WandbRun:
        """Open the run, and look at all rows again: W&B may have fewer of them than it was sent."""
        self._run = run = self._open(rewind_to)
        self._ledger.start(run.num_lines if rewind_to is None else rewind_to, run.segment)
        self._rows.restart()
        self._global_steps = {}
        return run

    def _rewind(self, run: WandbRun, num_lines: int) -> WandbRun:
        """Have W&B forget all lines but the first; if it cannot, they are sent again under the same step."""
        run.finish()
        try:
            return self._begin(num_lines)
        except Exception:
            self._can_rewind = False
            return self._begin(None)


class _Tail:
    """The whole lines of a file that grows, and now and then is replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = self._offset = 0
        self._lines: deque[str] = deque()

    def restart(self) -> None:
        """Begin with the first line again."""
        self._inode = self._offset = 0
        self._lines.clear()

    def next(self) -> str | None:
        """Return the next line, or None for now."""
        if not self._lines:
            self._read()
        return self._lines.popleft() if self._lines else None

    def _read(self) -> None:
        with suppress(FileNotFoundError), os.fdopen(open_to_read(self._path), "rb") as file:
            if (inode := os.fstat(file.fileno()).st_ino) != self._inode:
                self._inode, self._offset = inode, 0
            file.seek(self._offset)
            whole = file.read().rpartition(b"\n")[0]
            if whole:
                self._offset += len(whole) + 1
                self._lines.extend(whole.decode(errors="replace").split("\n"))


def _report_line(digest: str) -> str:
    return json.dumps({"node": "report", "step": digest})


def _more_to_send() -> bool:
    """Wait for the training; return False at its end."""
    data = os.read(0, 65536)
    while data and select.select([0], [], [], 0)[0]:
        data = os.read(0, 65536)
    return bool(data)


def main() -> None:
    """Read the arguments and follow the run."""
    # A scheduler signals all processes of a job; this one ends soon after the training, and only then is all sent.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    quiet_wandb()
    run_dir, project, entity, mode, finish_seconds = sys.argv[1:]
    Mirror(Path(run_dir), project, entity or None, mode, float(finish_seconds)).follow()


if __name__ == "__main__":
    main()
