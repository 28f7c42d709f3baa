"""Run as a program: `python -m ARGUMENTS` by a process that has to obey file permissions, also root's."""

import ctypes
import os
import runpy
import sys

_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2
_VERSION = 0x20080522


def give_up() -> None:
    """Give up the capabilities to read and write what permissions forbid."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; the same of the upper 32
    if libc.capget(header, data) == 0:
        kept = ~(1 << _DAC_OVERRIDE | 1 << _DAC_READ_SEARCH) & 0xFFFFFFFF
        data[0], data[1] = data[0] & kept, data[1] & kept
        if libc.capset(header, data):
            raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    give_up()
    sys.path[0] = os.getcwd()  # noqa: PTH109
    name, *sys.argv[1:] = sys.argv[1:]
    runpy.run_module(name, run_name="__main__", alter_sys=True)
