"""Refresh of directory listings: over NFS, a client's listing of a directory may be a minute old."""

import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from framework.checkpoint.manifest import generation_paths
from framework.files import create, is_real_directory, temporary_beside

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 5.0


def refresh_listings(run_dir: Path, patience_seconds: float = _PATIENCE_SECONDS) -> None:
    """Wait until the newest checkpoint is listed; otherwise a run would silently resume from an older one.

    A client that changes a directory refreshes its listing. If the link to the newest checkpoint names
    one that is still not listed, wait for a limited time, since it may also have been deleted by hand.
    """
    for directory in filter(is_real_directory, (run_dir / name for name in ("attempts", "checkpoints", "simulations"))):
        with suppress(OSError):
            probe = temporary_beside(directory / "listing")
            os.close(create(probe))
            probe.unlink()
    deadline = time.monotonic() + patience_seconds
    newest = _newest_by_link(run_dir)
    if newest is None or _is_listed(run_dir, newest):
        return
    log.warning("⚠ %s: the newest checkpoint is not listed; waiting for it", run_dir / "checkpoints" / newest)
    while not _is_listed(run_dir, newest) and time.monotonic() < deadline:
        time.sleep(0.1)


def _newest_by_link(run_dir: Path) -> str | None:
    with suppress(OSError):  # no checkpoint, or a file system without links
        return (run_dir / "checkpoints/latest").readlink().name
    return None


def _is_listed(run_dir: Path, generation: str) -> bool:
    return any(path.name == generation for path in generation_paths(run_dir / "checkpoints"))
