"""Runs a program on a kernel that lacks a family of addresses, as with ipv6.disable=1: ``python -m ... INET6 MODULE``.

A seccomp filter has socket() fail with EAFNOSUPPORT for that family, in the program and in its children.
"""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

SYSCALL = {"x86_64": 41, "aarch64": 198}
"""Number of socket(2) by machine, from the kernel's tables of system calls."""

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _FIRST_ARGUMENT = 0, 16
"""Offsets in struct seccomp_data."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse(family: int) -> None:
    """Take a family of addresses from this process and all that it starts; raises OSError."""
    instructions = (
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_IF_EQUAL, 0, 3, SYSCALL[platform.machine()]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_JUMP_IF_EQUAL, 0, 1, family),
        (_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT),
        (_RETURN, 0, 0, _ALLOW),
    )
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    program = _Program(len(instructions), code)
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    refuse(socket.AddressFamily[f"AF_{sys.argv[1]}"])
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[2:]])
