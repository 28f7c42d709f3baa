"""Directories that a command makes before it knows whether anything will come of it, and how they go again."""

from contextlib import suppress
from pathlib import Path

_HYDRA_FILES = {"config.yaml", "hydra.yaml", "overrides.yaml"}  # in hydra.output_subdir


class NewDirectories:
    """The directories on the way to `path`, and `path` itself, that do not exist yet."""

    def __init__(self, path: Path, hydra_subdir: str | None = None) -> None:
        path = Path.cwd() / path
        self._missing = [p for p in (path, *path.parents) if not p.exists()]
        self._hydra_dir = path / hydra_subdir if hydra_subdir else None

    def remove_if_unused(self) -> None:
        """Remove them, unless they hold anything but logs and what Hydra has written there by now."""
        if not self._missing:
            return
        top = self._missing[-1]
        inside = sorted(top.rglob("*"), reverse=True)  # what a directory holds comes before it
        files = [path for path in inside if not path.is_dir()]
        if not all(self._is_of_hydra(path) for path in files):
            return
        with suppress(OSError):  # another process has begun here meanwhile, and the rest is its own
            for path in files:
                path.unlink()
            for path in [*(path for path in inside if path not in files), top]:
                path.rmdir()

    def _is_of_hydra(self, path: Path) -> bool:
        if path.parent == self._hydra_dir:
            return path.name in _HYDRA_FILES
        return path.suffix == ".log" or path.name == "multirun.yaml"
