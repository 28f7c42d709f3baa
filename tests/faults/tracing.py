"""Linux's ptrace and seccomp through ctypes: what a debugger needs to stop a process at its calls that touch files."""

import ctypes
import os
import platform
import signal
import struct

WALL = 0x40000000  # waitpid: threads, too
ENTERED, RETURNED, STOPPED = "entered", "returned", "stopped"

_TRACEME, _CONT, _SYSCALL, _SETOPTIONS, _GETREGSET, _SETREGSET = 0, 7, 24, 0x4200, 0x4204, 0x4205
_OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x80 | 0x100000  # SYSGOOD, FORK, VFORK, CLONE, SECCOMP, EXITKILL
_EVENT_SECCOMP = 7
_PRSTATUS, _ARM_SYSTEM_CALL = 1, 0x404
_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2
_RET_TRACE, _RET_ALLOW = 0x7FF00000, 0x7FFF0000

X86_64 = """
read 0 write 1 open 2 close 3 stat 4 fstat 5 lstat 6 mmap 9 pread64 17 pwrite64 18 readv 19 writev 20 access 21
sendfile 40 fsync 74 fdatasync 75 truncate 76 ftruncate 77 rename 82 mkdir 83 rmdir 84 creat 85 link 86 unlink 87
symlink 88 readlink 89 chmod 90 fchmod 91 getdents64 217 utimes 235 openat 257 mkdirat 258 mknodat 259 newfstatat 262
unlinkat 263 renameat 264 linkat 265 symlinkat 266 readlinkat 267 fchmodat 268 faccessat 269 utimensat 280
fallocate 285 preadv 295 pwritev 296 renameat2 316 copy_file_range 326 statx 332 faccessat2 439"""
AARCH64 = """
mknodat 33 mkdirat 34 unlinkat 35 symlinkat 36 linkat 37 renameat 38 truncate 45 ftruncate 46 fallocate 47
faccessat 48 fchmod 52 fchmodat 53 openat 56 close 57 getdents64 61 read 63 write 64 readv 65 writev 66 pread64 67
pwrite64 68 preadv 69 pwritev 70 sendfile 71 readlinkat 78 newfstatat 79 fstat 80 fsync 82 fdatasync 83 utimensat 88
mmap 222 renameat2 276 copy_file_range 285 statx 291 faccessat2 439"""

MACHINE = platform.machine()
_words = {"x86_64": X86_64, "aarch64": AARCH64}.get(MACHINE, "").split()
NUMBERS = dict(zip(_words[::2], map(int, _words[1::2]), strict=True))
NAMES = {number: name for name, number in NUMBERS.items()}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_void_p))


class Registers:
    """What a stopped thread was about to call, or has got as the answer."""

    _WORDS = 27 if MACHINE == "x86_64" else 34
    _NUMBER, _RESULT = (15, 10) if MACHINE == "x86_64" else (8, 0)
    _ARGUMENTS = (14, 13, 12, 7, 9, 8) if MACHINE == "x86_64" else (0, 1, 2, 3, 4, 5)

    def __init__(self, tid: int) -> None:
        self.tid = tid
        self._words = (ctypes.c_ulonglong * self._WORDS)()
        self._transfer(_GETREGSET, _PRSTATUS, self._words)

    @property
    def name(self) -> str:
        """The call's, empty for one that was not asked for."""
        return NAMES.get(self._words[self._NUMBER], "")

    @property
    def result(self) -> int:
        return ctypes.c_longlong(self._words[self._RESULT]).value

    def argument(self, index: int) -> int:
        return self._words[self._ARGUMENTS[index]]

    def descriptor(self, index: int) -> int:
        """Return an argument as a C int: AT_FDCWD is negative."""
        return ctypes.c_int(self.argument(index) & 0xFFFFFFFF).value

    def set_argument(self, index: int, value: int) -> None:
        self._words[self._ARGUMENTS[index]] = value
        self._store()

    def answer(self, result: int) -> None:
        """Have the call that has returned give `result`."""
        self._words[self._RESULT] = result & (2**64 - 1)
        self._store()

    def skip(self, result: int) -> None:
        """Have the call that was entered not take place, and give `result`."""
        if MACHINE == "x86_64":
            self._words[self._NUMBER] = 2**64 - 1
        else:
            self._transfer(_SETREGSET, _ARM_SYSTEM_CALL, (ctypes.c_int * 1)(-1))
        self.answer(result)

    def _store(self) -> None:
        self._transfer(_SETREGSET, _PRSTATUS, self._words)

    def _transfer(self, request: int, kind: int, buffer: ctypes.Array) -> None:
        vector = _Vector(ctypes.addressof(buffer), ctypes.sizeof(buffer))
        _ptrace(request, self.tid, kind, ctypes.addressof(vector))


def begin_to_be_traced() -> None:
    """Stop until the parent traces this process, then report each call in `NUMBERS` to it; for a forked child."""
    _ptrace(_TRACEME, 0, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    _check(_libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(_libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(_filter), 0, 0))


def trace(pid: int) -> None:
    """Trace a child that has stopped in `begin_to_be_traced`, and let it continue."""
    _ptrace(_SETOPTIONS, pid, 0, _OPTIONS)
    resume(pid)


def resume(tid: int, until_return: bool = False, number: int = 0) -> None:
    """Let a thread continue to its next call, or until the one under way has returned; with a signal, if any."""
    _ptrace(_SYSCALL if until_return else _CONT, tid, 0, number)


def why_stopped(status: int) -> tuple[str, int]:
    """Return what a thread has stopped for, by `waitpid`'s status, and the signal that it is to get."""
    number, event = os.WSTOPSIG(status), status >> 16
    if event:
        return (ENTERED if event == _EVENT_SECCOMP else STOPPED), 0
    if number == signal.SIGTRAP | 0x80:
        return RETURNED, 0
    return STOPPED, 0 if number in (signal.SIGSTOP, signal.SIGTRAP) else number  # new threads begin with SIGSTOP


def _ptrace(request: int, tid: int, address: int, data: int) -> None:
    _check(_libc.ptrace(request, tid, address, data))


def _check(result: int) -> None:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _instruction(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, k)


def _program() -> bytes:
    """Return the filter's program: stop at the calls that are known, but not where memory alone is mapped."""
    load, equal, give = 0x20, 0x15, 0x06
    others = [number for name, number in NUMBERS.items() if name != "mmap"]
    first = [_instruction(load, 0), _instruction(equal, NUMBERS.get("mmap", 0), len(others) + 1, 0)]
    tests = [_instruction(equal, number, len(others) - at + 2, 0) for at, number in enumerate(others)]
    last = [
        _instruction(give, _RET_ALLOW),
        _instruction(load, 16 + 4 * 8),  # mmap's descriptor, -1 for memory
        _instruction(equal, 0xFFFFFFFF, 1, 0),
        _instruction(give, _RET_TRACE),
        _instruction(give, _RET_ALLOW),
    ]
    return b"".join(first + tests + last)


_code = ctypes.create_string_buffer(_program())
_filter = _Filter(len(_program()) // 8, ctypes.addressof(_code))
