"""Weights & Biases tracking: a separate process mirrors `metrics.jsonl`."""

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
    """Start a process that sends the run's metrics, configuration and report to W&B.

    That process reads `metrics.jsonl`, so nothing is lost while it or the server is down: missing records are sent
    later, by this attempt or the next. Training only writes one byte per epoch to a pipe, and its process is free of
    the SDK's threads, hooks and signal handlers. `offline` writes below `<run_dir>/wandb`, for `wandb sync`, and needs
    neither a login nor a network.
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
                self._stop(f"its process cannot be started ({error.strerror})")

    def log(self, record: Mapping[str, Any]) -> None:
        """Notify the process of a new record."""
        if self._mirror and self._mirror.stdin:
            with suppress(BlockingIOError):  # the pipe is full, so that notifications are already pending
                try:
                    os.write(self._mirror.stdin.fileno(), b"\n")
                except BrokenPipeError:
                    self._stop("its process was killed")

    def cut_back(self, node: str, step: int) -> None:
        """Do nothing: the process detects removed records when it sends the next one."""

    def close(self) -> None:
        """Ask the process to send the rest, and wait a limited time for that."""
        mirror = self._mirror
        if not mirror or not mirror.stdin:
            return
        mirror.stdin.close()
        try:
            mirror.wait(self._finish_seconds + 2)
        except subprocess.TimeoutExpired:
            self._stop("it takes too long to finish")
        self._mirror = None

    def _stop(self, why: str) -> None:
        log.warning("⚠ W&B: %s; metrics.jsonl is complete, and the next attempt sends the missing records", why)
        if self._mirror:
            self._mirror.kill()
            self._mirror.wait()
        self._mirror = None


def _start(options: list[str]) -> "subprocess.Popen[bytes]":
    """Start the mirror process in its own session, so that Ctrl+C only reaches training."""
    command = [sys.executable, "-m", "framework.tracking.wandb_mirror", *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    mirror = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    assert mirror.stdin is not None
    os.set_blocking(mirror.stdin.fileno(), False)
    return mirror
