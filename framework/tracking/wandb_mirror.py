"""The process that sends `metrics.jsonl` to W&B: `python -m framework.tracking.wandb_mirror`.

Each line on its standard input signals new records, and the end of the input that the attempt is over.
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
    """Send everything in the run directory that W&B lacks, repeatedly until the attempt is over."""

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
        """Send new records whenever training signals them, and at its end."""
        while _more_to_send():
            self._try(self._send)
        threading.Timer(self._finish_seconds + 1, self._time_out).start()  # a hanging server must not block the exit
        for _ in range(2):  # the first try fails if the SDK's process was killed by the signal that ended training
            self._retry_at = 0.0
            if self._try(self._send_all):
                break
        os._exit(0)  # without the SDK's exit handlers, which would wait again

    def _time_out(self) -> None:
        self._warn("not everything was sent in time")
        os._exit(1)

    def _try(self, send: Callable[[], object]) -> bool:
        """Call `send` and return whether it succeeded; after a failure, skip calls for a while."""
        if time.monotonic() < self._retry_at:
            return False
        try:
            send()
            return True
        except Exception as error:  # errors of the SDK must not affect training
            self._run, self._retry_at = None, time.monotonic() + _RETRY_SECONDS
            self._warn((str(error) or type(error).__name__).splitlines()[0])
            return False

    def _warn(self, reason: str) -> None:
        if not self._has_warned:
            text = f"⚠ W&B: {reason}; metrics.jsonl is complete, and the next attempt sends the missing records"
            print(text, file=sys.stderr, flush=True)
        self._has_warned = True

    def _send_all(self) -> None:
        run = self._send()
        if (digest := run.report_digest()) and not self._ledger.has(line := _report_line(digest)):
            run.log_report(self._ledger.num_lines)
            self._ledger.add(line)
        run.finish()
        self._ledger.mark_sent(run.segment)

    def _send(self) -> WandbRun:
        run = self._run or self._begin(None)
        while (found := self._rows.next()) is not None:
            if (row := parse_line(found)) is None:
                continue  # damaged; the tracker that writes the file reports it
            line = json.dumps(row)  # without the checksum, which depends on earlier lines
            self._global_steps[row["node"]] = row["step"]
            number = self._ledger.stale(line)
            if number and self._can_rewind:
                run = self._rewind(run, number)
            elif not self._ledger.has(line):
                run.log(row, sum(self._global_steps.values()), self._ledger.num_lines)
                self._ledger.add(line)
        return run

    def _begin(self, rewind_to: int | None) -> WandbRun:
        """Open the run and start again with the first row, because W&B may have fewer rows than it was sent."""
        self._run = run = self._open(rewind_to)
        self._ledger.start(run.num_lines if rewind_to is None else rewind_to, run.segment)
        self._rows.restart()
        self._global_steps = {}
        return run

    def _rewind(self, run: WandbRun, num_lines: int) -> WandbRun:
        """Delete all but the first `num_lines` lines at W&B; if that fails, send changed lines as additional ones."""
        run.finish()
        try:
            return self._begin(num_lines)
        except Exception:
            self._can_rewind = False
            return self._begin(None)


class _Tail:
    """Reader of the complete lines of a file that grows and is sometimes replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = self._offset = 0
        self._lines: deque[str] = deque()

    def restart(self) -> None:
        """Start again with the first line."""
        self._inode = self._offset = 0
        self._lines.clear()

    def next(self) -> str | None:
        """Return the next line, or None if there is none yet."""
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
    """Wait for a notification from training; return False at its end."""
    data = os.read(0, 65536)
    while data and select.select([0], [], [], 0)[0]:
        data = os.read(0, 65536)
    return bool(data)


def main() -> None:
    """Read the arguments and follow the run."""
    # A scheduler signals all processes of a job, but this one must outlive training to send the last records.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    quiet_wandb()
    run_dir, project, entity, mode, finish_seconds = sys.argv[1:]
    Mirror(Path(run_dir), project, entity or None, mode, float(finish_seconds)).follow()


if __name__ == "__main__":
    main()
