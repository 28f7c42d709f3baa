"""Files that appear complete and durable, or not at all."""

import os
from pathlib import Path

from framework.files import sync_directory


def commit_file(path: Path, *chunks: bytes | memoryview) -> None:
    """Write the chunks to `path`; when this returns they are on disk.

    After any error the file that was begun is gone: once fsync has failed, pages count as
    clean although they were lost, so it could never be completed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def remove_leftovers(directory: Path) -> None:
    """Delete the files that killed processes had begun in `directory`."""
    for path in directory.glob(".*.tmp"):
        path.unlink(missing_ok=True)
