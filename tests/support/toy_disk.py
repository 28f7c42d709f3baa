"""A disk that fails once: every operation of Python on files is counted, and one of them raises an error."""

import os
from pathlib import Path

OPERATIONS = ("write", "mkdir", "rename", "link", "symlink", "unlink", "rmdir", "replace", "fsync")


class Disk:
    """Stands between `os` and files; use with pytest's monkeypatch.

    The `fail_at`-th operation fails with `error`, with `after` although it was done. `done` lists the operations.
    Nothing is really fsynced, which would take most of a test's time.
    """

    def __init__(self, monkeypatch, fail_at=None, error=0, after=False) -> None:
        self.fail_at, self.error, self.after = fail_at, error, after
        self.done: list[tuple[str, str]] = []
        for name in OPERATIONS:
            real = getattr(os, name) if name != "fsync" else lambda descriptor: None
            monkeypatch.setattr(os, name, self._wrap(name, real))

    def _wrap(self, name, function):
        def operation(*args, **kwargs):
            fails = len(self.done) == self.fail_at
            if fails and not self.after:
                self.done.append((name, "failed"))
                raise OSError(self.error, os.strerror(self.error))
            path = _path(args[0], kwargs.get("dir_fd"))
            result = function(*args, **kwargs)
            self.done.append((name, path.name))
            if fails:
                raise OSError(self.error, os.strerror(self.error))
            return result

        return operation


def _path(target, directory) -> Path:
    if isinstance(target, int):
        return Path(f"/proc/self/fd/{target}").readlink()
    if directory is not None:
        return Path(f"/proc/self/fd/{directory}").readlink() / target
    return Path(os.fspath(target))
