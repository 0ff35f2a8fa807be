"""System calls and allocations that fail, in threads that ask for it: the controls of faults.c.

A process that is to fail starts with the library in LD_PRELOAD.  Under AddressSanitizer the sanitizer comes before it,
and so checks the memory of each call, whether it fails or not.
"""

import ctypes
import errno
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("faults.c")
FLAGS = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
SHORT = -1
"""The way to fail of a call that takes or gives less than it was asked for."""

_UNREADY = (errno.EAGAIN, errno.EINTR)
_MEMORY = (errno.ENOBUFS, errno.ENOMEM)
_FILES = (errno.EMFILE, errno.ENFILE)
WAYS: Mapping[str, tuple[int, ...]] = {
    "recvmmsg": (*_UNREADY, *_MEMORY, errno.ECONNREFUSED, errno.EHOSTUNREACH, SHORT),
    "sendmmsg": (
        *_UNREADY,
        *_MEMORY,
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.EMSGSIZE,
        errno.EPERM,
        errno.EIO,
        SHORT,
    ),
    "recv": (*_UNREADY, *_MEMORY, errno.ECONNREFUSED, errno.ECONNRESET, SHORT),
    "send": (*_UNREADY, *_MEMORY, errno.ECONNREFUSED, errno.EPIPE, SHORT),
    "recvfrom": (*_UNREADY, *_MEMORY, errno.ECONNREFUSED, SHORT),
    "sendto": (*_UNREADY, *_MEMORY, errno.ECONNREFUSED, errno.EPERM, SHORT),
    "recvmsg": (*_UNREADY, *_MEMORY, errno.ECONNREFUSED, SHORT),
    "sendmsg": (*_UNREADY, *_MEMORY, errno.ECONNREFUSED, errno.EMSGSIZE, SHORT),
    "accept4": (*_UNREADY, *_MEMORY, *_FILES, errno.ECONNABORTED, errno.EPERM),
    "connect": (*_MEMORY, errno.EAGAIN, errno.ECONNREFUSED, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.ETIMEDOUT),
    "socket": (*_MEMORY, *_FILES),
    "bind": (*_MEMORY, errno.EADDRINUSE, errno.EACCES),
    "setsockopt": (*_MEMORY, errno.EINVAL),
    "getsockopt": _MEMORY,
    "getsockname": _MEMORY,
    "shutdown": (errno.ENOTCONN, errno.ENOBUFS),
    "splice": (*_UNREADY, errno.ENOMEM, errno.EINVAL, errno.ECONNRESET, SHORT),
    "pipe2": _FILES,
    "fcntl": (errno.EPERM, errno.EBUSY, errno.ENOMEM),
    "ioctl": (errno.EINVAL, errno.ENOMEM),
    "epoll_ctl": (errno.ENOMEM, errno.ENOSPC),
    "epoll_wait": (errno.EINTR,),
    "memory": (errno.ENOMEM,),
}
"""Each call and the ways in which it may fail; "memory" is the allocation of a native module."""


def compiled(folder: Path) -> Path:
    """Compile the library in a folder, unless it is there already; return its path."""
    library = folder / "faults.so"
    if not library.exists() or library.stat().st_mtime < SOURCE.stat().st_mtime:
        folder.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC", "gcc")
        subprocess.run([compiler, *FLAGS, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


class Faults:
    """The library that is loaded in this process.  Rules hold for all threads that have called `here`."""

    def __init__(self) -> None:
        """Raises OSError if the process was started without the library."""
        self._library = library = ctypes.CDLL(None)
        try:
            library.faults_rule.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_double, ctypes.c_long]
        except AttributeError:
            raise OSError(errno.ENOENT, "the library of faults is not preloaded") from None
        library.faults_seed.argtypes = [ctypes.c_uint64]
        library.faults_seen.restype = library.faults_failed.restype = ctypes.c_long
        library.faults_datagrams.restype = ctypes.POINTER(ctypes.c_long)
        library.faults_live.restype = ctypes.c_long
        self._datagrams = library.faults_datagrams()
        self.modules = int(library.faults_hook())
        """The number of native modules whose allocations may fail: those that have been imported by now."""

    def here(self, on: bool = True) -> None:
        """Let calls of the calling thread fail from now on, or no longer."""
        self._library.faults_here(int(on))

    def seed(self, number: int) -> None:
        """Choose the sequence of what fails."""
        self._library.faults_seed(number)

    def rule(self, call: str, way: int, chance: float = 0.0, nth: int = 0) -> None:
        """Let a call fail in a way: with a chance each time, and the `nth` time from now on (0: never)."""
        if self._library.faults_rule(self._number(call), way, chance, nth):
            raise ValueError(f"too many ways for {call}")

    def clear(self) -> None:
        """Drop all rules."""
        self._library.faults_clear()

    def seen(self, call: str) -> int:
        """Return how often threads that may fail have made this call."""
        return int(self._library.faults_seen(self._number(call)))

    def failed(self, call: str) -> int:
        """Return how often this call has failed by a rule."""
        return int(self._library.faults_failed(self._number(call)))

    @property
    def live(self) -> int:
        """The number of blocks of memory that native modules have allocated and not freed."""
        return int(self._library.faults_live())

    @property
    def datagrams(self) -> int:
        """The number of datagrams that those threads have received."""
        return int(self._datagrams[0])

    @property
    def datagrams_at(self) -> int:
        """The address of that number, a `long`."""
        return ctypes.cast(self._datagrams, ctypes.c_void_p).value or 0

    def _number(self, call: str) -> int:
        number = int(self._library.faults_number(call.encode()))
        if number < 0:
            raise ValueError(f"no call {call}")
        return number
