"""Seeing all that another host has written: over NFS, a client's listing of a directory may be a minute old."""

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
    """Return when the newest checkpoint is listed; without it a run would silently go on from an older one.

    A client that changes a directory lists it afresh. Where even then the link to the newest checkpoint
    names one that is not listed, wait for it; it may also have been deleted by hand.
    """
    for directory in filter(is_real_directory, (run_dir / name for name in ("attempts", "checkpoints", "simulations"))):
        with suppress(OSError):
            probe = temporary_beside(directory / "listing")
            os.close(create(probe))
            probe.unlink()
    give_up, newest = time.monotonic() + patience_seconds, _newest_by_link(run_dir)
    if newest is None or _is_listed(run_dir, newest):
        return
    log.warning(
        "⚠ %s: not listed, though it was the newest checkpoint; waiting for it", run_dir / "checkpoints" / newest
    )
    while not _is_listed(run_dir, newest) and time.monotonic() < give_up:
        time.sleep(0.1)


def _newest_by_link(run_dir: Path) -> str | None:
    with suppress(OSError):  # there is no checkpoint, or the file system knows no links
        return (run_dir / "checkpoints/latest").readlink().name
    return None


def _is_listed(run_dir: Path, generation: str) -> bool:
    return any(path.name == generation for path in generation_paths(run_dir / "checkpoints"))
