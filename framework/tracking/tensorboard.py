"""Metrics as TensorBoard event files in `<run_dir>/tensorboard`."""

import errno
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from framework.errors import CheckpointError, ConfigError
from framework.imports import missing_package
from framework.rundir.metric_lines import METRICS_FILE, read_metrics

log = logging.getLogger(__name__)


class TensorBoardTracker:
    """Write one event file per attempt; steps that a resumed run repeats are purged from earlier files.

    The step is the total number of optimizer steps of all nodes.
    """

    def __init__(self, run_dir: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(f"tracking.tensorboard: {missing_package(error) or error}") from error
        self._new_writer, self._log_dir = SummaryWriter, run_dir / "tensorboard"
        self._writer: Any = None
        self._has_failed = False
        self._steps: dict[str, int] = {}
        with suppress(CheckpointError):  # the tracker that writes it has logged a warning
            records = read_metrics(run_dir / METRICS_FILE).records
            self._steps = {record["node"]: record["step"] for record in records}

    def log(self, record: Mapping[str, Any]) -> None:
        """Write a record's numbers; after the first write error, write nothing more."""
        before, node = sum(self._steps.values()), record["node"]
        self._steps[node] = record["step"]
        if self._has_failed:
            return
        try:
            if self._log_dir.is_symlink():
                raise OSError(errno.ELOOP, "is a link, expected a directory")
            if self._writer is None:
                self._writer = self._new_writer(str(self._log_dir), purge_step=before + 1)
            for name, value in record.items():
                if name not in ("node", "step"):
                    self._writer.add_scalar(f"{node}/{name}", value, sum(self._steps.values()))
        except OSError as error:
            self._has_failed = True
            log.warning("⚠ %s: cannot be written (%s); training continues", self._log_dir, error.strerror)

    def cut_back(self, node: str, step: int) -> None:
        """Purge later steps, so that the node continues from `step`."""
        self._steps[node] = step

    def close(self) -> None:
        """Write pending records."""
        if self._writer is not None and not self._has_failed:
            with suppress(OSError):
                self._writer.close()
