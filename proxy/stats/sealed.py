"""Sealed memory files, for processes that share memory without trusting each other.

They are sealed against shrinking, because a process dies of SIGBUS if another one truncates a file that it has mapped.
They have mode 0600 and belong to the process that makes them, because a memfd starts with mode 0777: a process with a
read-only descriptor could otherwise open it again for writing.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SIZE: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def zeroed(name: str, size: int) -> int:
    """Make a file of `size` zero octets that can be written to but not resized; return its descriptor.

    Raises OSError if memory or descriptors run out.
    """
    with _made(name, _SIZE) as fd:
        os.ftruncate(fd, size)
    return fd


def frozen(name: str, data: bytes) -> int:
    """Make a file of this data that no process can change; return its descriptor.  Raises OSError like `zeroed`."""
    with _made(name, _SIZE | fcntl.F_SEAL_WRITE) as fd, open(fd, "wb", closefd=False) as file:
        file.write(data)
    return fd


@contextmanager
def _made(name: str, seals: int) -> Iterator[int]:
    """Make an empty file, and seal it after the caller has filled it."""
    fd = os.memfd_create(f"steelyard-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.fchmod(fd, 0o600)
        yield fd
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(fd)
        raise
