"""Where Optuna keeps its study."""

from pathlib import Path
from typing import Any


def journal(path: str) -> Any:
    """Return a storage of Optuna's in one file, which unlike a database is right on NFS, too."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(path))
