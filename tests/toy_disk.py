"""A disk that dies: every operation on files is counted, and one of them can fail or be the last."""

import os
import shutil
from pathlib import Path

WRITE, SYNC = "write", "fsync"
CHANGES = ("mkdir", "rename", "link", "symlink", "unlink", "rmdir", "replace")


class Crash(BaseException):
    """The process is gone: no clean-up of its own may reach the disk any more."""


class Disk:
    """Stands between `os` and the files below one directory; use with pytest's monkeypatch.

    The `stop_at`-th operation and all after it do not happen: it raises `Crash`; or, with `error`, that one alone
    fails with that errno, with `after` although it was done. `done` lists the operations. Nothing is really
    fsynced, which would take most of a test's time; `lose_unsynced` leaves only what a power cut must leave.
    """

    def __init__(self, monkeypatch, stop_at=None, error=None, after=False) -> None:
        self.stop_at, self.error, self.after = stop_at, error, after
        self.done: list[tuple[str, str]] = []
        self.dirty_files: dict[int, Path] = {}  # by inode: written, not fsynced
        self.new_names: dict[Path, set[Path]] = {}  # by directory: names that its next fsync makes durable
        self.crashed = False
        for name in (WRITE, *CHANGES):
            monkeypatch.setattr(os, name, self._wrap(name, getattr(os, name)))
        monkeypatch.setattr(os, SYNC, self._wrap(SYNC, lambda descriptor: None))

    def _wrap(self, name, function):
        def operation(*args, **kwargs):
            if self.crashed:
                raise Crash
            is_last = len(self.done) == self.stop_at
            if is_last and self.error is None:
                self.crashed = True
                raise Crash
            if is_last and not self.after:
                self.done.append((name, "failed"))
                raise OSError(self.error, os.strerror(self.error))
            path = _path(args[0], kwargs.get("dir_fd"))
            result = function(*args, **kwargs)
            self.done.append((name, path.name))
            self._note(name, path, args)
            if is_last:
                raise OSError(self.error, os.strerror(self.error))
            return result

        return operation

    def _note(self, name, path, args) -> None:
        if name == WRITE:
            self.dirty_files[os.fstat(args[0]).st_ino] = path
            self.new_names.setdefault(path.parent, set()).add(path)
        elif name == SYNC:
            self.dirty_files.pop(os.fstat(args[0]).st_ino, None)
            self.new_names.pop(path, None)
        elif name in ("rename", "replace"):
            target = Path(os.fspath(args[1]))
            self.dirty_files = {i: _moved(p, path, target) for i, p in self.dirty_files.items()}
            moved = {_moved(d, path, target): {_moved(p, path, target) for p in ps} for d, ps in self.new_names.items()}
            self.new_names = moved
            self.new_names.setdefault(target.parent, set()).add(target)
        elif name == "unlink":
            self.dirty_files = {inode: p for inode, p in self.dirty_files.items() if p != path}
        elif name in ("link", "symlink"):
            target = Path(os.fspath(args[1]))
            self.new_names.setdefault(target.parent, set()).add(target)
        elif name == "mkdir":
            self.new_names.setdefault(path.parent, set()).add(path)

    def lose_unsynced(self, keep_names: bool) -> None:
        """Cut files that were not fsynced; names that were not are kept or lost, since either may happen."""
        for path in self.dirty_files.values():
            if path.is_file():
                with path.open("r+b") as file:
                    file.truncate(path.stat().st_size // 2)
        if not keep_names:
            for path in {p for paths in self.new_names.values() for p in paths}:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)


def _path(target, directory) -> Path:
    if isinstance(target, int):
        return Path(f"/proc/self/fd/{target}").readlink()
    if directory is not None:
        return Path(f"/proc/self/fd/{directory}").readlink() / target
    return Path(os.fspath(target))


def _moved(path: Path, source: Path, target: Path) -> Path:
    return target / path.relative_to(source) if path.is_relative_to(source) else path
