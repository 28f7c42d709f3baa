"""Weights & Biases: `metrics.jsonl`, mirrored by a process of its own."""

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from framework.errors import ConfigError

log = logging.getLogger(__name__)

MODES = ("offline", "online", "disabled")


class WandbTracker:
    """Has a process send the run's metrics to W&B, and everything else that the run directory tells of the run.

    What W&B gets is read from `metrics.jsonl`, so nothing is lost while a server or that process is down: whatever
    is missing there is sent later, by this attempt or the next. Training pays for one byte in a pipe per epoch; the
    SDK's threads, hooks and signals are not in its process. `offline` writes below `<run_dir>/wandb`, for
    `wandb sync`, and needs neither a login nor a network.
    """

    def __init__(
        self,
        run_dir: Path,
        project: str = "framework",
        entity: str | None = None,
        mode: str = "offline",
        finish_seconds: float = 10.0,
    ) -> None:
        if mode not in MODES:
            raise ConfigError(f"tracking.wandb.mode={mode}: expected {', '.join(MODES)}")
        self._finish_seconds = finish_seconds
        self._mirror: subprocess.Popen[bytes] | None = None
        if mode != "disabled":
            try:
                self._mirror = _start([str(run_dir), project, entity or "", mode, str(finish_seconds)])
            except OSError as error:
                self._give_up(f"its process cannot be started ({error.strerror})")

    def log(self, record: Mapping[str, Any]) -> None:
        """Tell that there is a new record."""
        if self._mirror and self._mirror.stdin:
            with suppress(BlockingIOError):  # it has been told often enough already
                try:
                    os.write(self._mirror.stdin.fileno(), b"\n")
                except BrokenPipeError:
                    self._give_up("its process was killed")

    def cut_back(self, node: str, step: int) -> None:
        """Do nothing: what was cut from `metrics.jsonl` shows when the next record is sent."""

    def close(self) -> None:
        """Have the rest sent, and wait a little for that."""
        mirror = self._mirror
        if not mirror or not mirror.stdin:
            return
        mirror.stdin.close()
        try:
            mirror.wait(self._finish_seconds + 2)
        except subprocess.TimeoutExpired:
            self._give_up("it takes too long to finish")
        self._mirror = None

    def _give_up(self, why: str) -> None:
        log.warning("⚠ W&B: %s; metrics.jsonl has everything, and the next attempt sends what is missing", why)
        if self._mirror:
            self._mirror.kill()
            self._mirror.wait()
        self._mirror = None


def _start(options: list[str]) -> "subprocess.Popen[bytes]":
    """Start the mirror out of the terminal's reach: Ctrl+C is for the training alone."""
    command = [sys.executable, "-m", "framework.tracking.wandb_mirror", *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    mirror = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    assert mirror.stdin is not None
    os.set_blocking(mirror.stdin.fileno(), False)
    return mirror
