"""What a system call does to the files below one directory, read from a thread that is about to make it."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.tracing import Registers

_AT_FDCWD = -100
_AT_REMOVEDIR = 0x200
_O_CREAT, _O_TRUNC, _O_WRITABLE = os.O_CREAT, os.O_TRUNC, os.O_WRONLY | os.O_RDWR
_PAGE = 4096

# The kind of each call, and where its paths are: a descriptor, a path, or a directory's descriptor and a path.
_KINDS = {
    "read": "read fd",
    "pread64": "read fd",
    "readv": "read fd",
    "preadv": "read fd",
    "write": "write fd",
    "pwrite64": "write fd",
    "writev": "write fd",
    "pwritev": "write fd",
    "sendfile": "write fd",
    "copy_file_range": "write fd2",
    "close": "close fd",
    "fsync": "sync fd",
    "fdatasync": "sync fd",
    "ftruncate": "truncate fd",
    "truncate": "truncate path",
    "fallocate": "allocate fd",
    "fstat": "stat fd",
    "stat": "stat path",
    "lstat": "stat path",
    "newfstatat": "stat at",
    "statx": "stat at",
    "access": "stat path",
    "faccessat": "stat at",
    "faccessat2": "stat at",
    "readlink": "stat path",
    "readlinkat": "stat at",
    "getdents64": "list fd",
    "mmap": "map fd4",
    "open": "open path",
    "creat": "open path",
    "openat": "open at",
    "mkdir": "mkdir path",
    "mkdirat": "mkdir at",
    "mknodat": "mknod at",
    "rmdir": "rmdir path",
    "unlink": "unlink path",
    "unlinkat": "unlink at",
    "rename": "rename paths",
    "renameat": "rename ats",
    "renameat2": "rename ats",
    "link": "link paths",
    "linkat": "link ats",
    "symlink": "symlink target",
    "symlinkat": "symlink target-at",
    "chmod": "touch path",
    "fchmod": "touch fd",
    "fchmodat": "touch at",
    "utimes": "touch path",
    "utimensat": "touch at",
}
CHANGES = {"open", "write", "truncate", "mkdir", "mknod", "rmdir", "unlink", "rename", "link", "symlink"}


@dataclass
class Call:
    """One call; paths are absolute. What it wrote is known when it has returned.

    `stop` is its number among all calls of the process that are stopped at, wherever their files are.
    """

    kind: str
    paths: list[str]
    stop: int = 0
    is_new: bool = False  # it creates the file
    is_cut: bool = False  # it empties the file
    offset: int = 0
    data: bytes = field(default=b"", repr=False)

    @property
    def changes(self) -> bool:
        """Tell whether it may change what is on disk."""
        return self.kind in CHANGES and (self.kind != "open" or self.is_new or self.is_cut)


def read_call(registers: Registers, root: str) -> Call | None:
    """Return the call that a thread has entered, or None if it touches nothing in the directory `root`."""
    kind, where = _KINDS[registers.name].split()
    paths = _paths(registers, where)
    if not any(path == root or path.startswith(f"{root}/") for path in paths):
        return None
    call = Call(kind, paths)
    if kind == "open":
        flags = registers.argument(2 if where == "at" else 1)
        call.is_new = bool(flags & _O_CREAT) and not os.path.lexists(paths[0])
        call.is_cut = bool(flags & _O_TRUNC) and bool(flags & _O_WRITABLE)
    elif kind == "unlink" and where == "at" and registers.argument(2) & _AT_REMOVEDIR:
        call.kind = "rmdir"
    elif kind == "truncate":
        call.offset = registers.argument(1)
    elif kind == "write":
        call.offset = _offset(registers, paths[0])
    return call


def note_written(call: Call, number: int) -> None:
    """Keep what a call has written, which is in the file now; `number` is what it has returned."""
    if call.kind == "write" and number > 0:
        with open(call.paths[0], "rb") as file:  # noqa: PTH123  # no path is made of it
            call.data = os.pread(file.fileno(), number, call.offset)


def _paths(registers: Registers, where: str) -> list[str]:
    tid = registers.tid
    if where.startswith("fd"):
        return [_of_descriptor(tid, registers.descriptor(int(where[2:] or 0)))]
    if where == "path":
        return [_of_name(tid, _AT_FDCWD, registers.argument(0))]
    if where == "at":
        return [_of_name(tid, registers.descriptor(0), registers.argument(1))]
    if where == "target":
        return [_of_name(tid, _AT_FDCWD, registers.argument(1)), _text(tid, registers.argument(0))]
    if where == "target-at":
        return [_of_name(tid, registers.descriptor(1), registers.argument(2)), _text(tid, registers.argument(0))]
    if where == "paths":
        return [_of_name(tid, _AT_FDCWD, registers.argument(index)) for index in (0, 1)]
    return [_of_name(tid, registers.descriptor(index), registers.argument(index + 1)) for index in (0, 2)]


def _of_descriptor(tid: int, descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/{tid}/fd/{descriptor}") if descriptor >= 0 else ""  # noqa: PTH115
    except OSError:
        return ""


def _of_name(tid: int, directory: int, address: int) -> str:
    name = _text(tid, address) if address else ""
    if name.startswith("/"):
        return os.path.normpath(name)
    base = f"/proc/{tid}/cwd" if directory == _AT_FDCWD else f"/proc/{tid}/fd/{directory}"
    return os.path.normpath(f"{os.readlink(base)}/{name}")  # noqa: PTH115


def _text(tid: int, address: int) -> str:
    """Return the text that ends with a zero byte, from the memory of a thread."""
    found = b""
    with open(f"/proc/{tid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123
        while b"\0" not in found:
            found += os.pread(memory.fileno(), _PAGE - (address + len(found)) % _PAGE, address + len(found))
    return os.fsdecode(found.partition(b"\0")[0])


def _offset(registers: Registers, path: str) -> int:
    """Return where a write begins, by the position of its descriptor."""
    if registers.name == "pwrite64":
        return registers.argument(3)
    index = 2 if registers.name == "copy_file_range" else 0
    entries = Path(f"/proc/{registers.tid}/fdinfo/{registers.descriptor(index)}").read_text()
    fields = dict(line.split(":", 1) for line in entries.splitlines() if ":" in line)
    if int(fields["flags"], 8) & os.O_APPEND:
        return os.stat(path).st_size  # noqa: PTH116
    return int(fields["pos"])
