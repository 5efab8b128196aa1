"""The system calls that a query may make: reading its release, memory, time, its answer. Linux only.

A filter of the kernel's own (seccomp), set by the process for itself, without privileges and for good. It is an
allow-list: opening files, sockets, other programs, other processes, signals and new threads are all refused with
``EPERM``, by whatever hole in the engine they are tried.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys

_X86_64, _AARCH64 = 0xC000003E, 0xC00000B7
_CALLS: dict[str, tuple[int, int]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "pread64": (17, 67),
    "writev": (20, 66),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "exit": (60, 93),
    "getrusage": (98, 165),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "newfstatat": (262, 79),
    "ppoll": (271, 73),
    "getrandom": (318, 278),
    "membarrier": (324, 283),
}
"""Name -> number on x86_64 and aarch64."""

_SET_NO_NEW_PRIVS, _SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050001  # the last one: errno 1, EPERM
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_FOREIGN_ABI = 0x40000000


def is_supported() -> bool:
    """Whether this machine's kernel and processor are known here."""
    return sys.platform == "linux" and platform.machine() in {"x86_64", "aarch64"}


def lock_down() -> None:
    """Refuse every other system call to this thread from now on.

    Raises:
        OSError: the kernel does not do it.

    Side effects: cannot be undone; threads that exist already are not covered.
    """
    column = 0 if platform.machine() == "x86_64" else 1
    numbers = [each[column] for each in _CALLS.values()]
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_EQUAL, 1, 0, (_X86_64, _AARCH64)[column]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_JUMP_AT_LEAST, 0, 1, _FOREIGN_ABI),
        (_RETURN, 0, 0, _KILL),
        *((_JUMP_EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_SET_SECCOMP, _MODE_FILTER, ctypes.c_char_p(program))):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
