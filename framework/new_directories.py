"""Removal of directories that a command created in vain, before it found a mistake.

Also refuses existing directories with links in place of files, through which Hydra would write.
"""

from contextlib import suppress
from pathlib import Path

from framework.errors import ConfigError

_HYDRA_FILES = ("config.yaml", "hydra.yaml", "overrides.yaml")  # in hydra.output_subdir
_RUN_FILES = ("config.yaml", "run.json", "metrics.jsonl", "observed.npz", "truth.npz", "job.json", "exit.json")
_SWEEP_FILES = ("multirun.yaml", "sweep.json", "sweep.csv", "sweep.html", "study.journal", "jobs")


def refuse_links(directory: Path, job_name: str, hydra_subdir: str | None) -> None:
    """Raise `ConfigError` if a file that Hydra, a run or a sweep writes in `directory` is a link."""
    hydra_files = [hydra_subdir, *(f"{hydra_subdir}/{name}" for name in _HYDRA_FILES)] if hydra_subdir else []
    for name in (f"{job_name}.log", *hydra_files, *_RUN_FILES, *_SWEEP_FILES):
        if (path := directory / name).is_symlink():
            raise ConfigError(f"{path}: is a link, so the run would write elsewhere; remove it")


class NewDirectories:
    """The directories among `path` and its parents that do not exist yet."""

    def __init__(self, path: Path, hydra_subdir: str | None = None) -> None:
        path = Path.cwd() / path
        self._missing = [p for p in (path, *path.parents) if not p.exists()]
        self._hydra_dir = path / hydra_subdir if hydra_subdir else None

    def remove_if_unused(self) -> None:
        """Remove the directories, unless they contain anything except logs and Hydra's files."""
        if not self._missing:
            return
        top = self._missing[-1]
        inside = sorted(top.rglob("*"), reverse=True)  # contents before their directory
        files = [path for path in inside if not path.is_dir()]
        if not all(self._is_removable(path) for path in files):
            return
        with suppress(OSError):  # another process has meanwhile started to write here
            for path in files:
                path.unlink()
            for path in [*(path for path in inside if path not in files), top]:
                path.rmdir()

    def _is_removable(self, path: Path) -> bool:
        if path.parent == self._hydra_dir:
            return path.name in _HYDRA_FILES
        return path.suffix == ".log" or path.name == "multirun.yaml"
