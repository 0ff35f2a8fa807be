"""Memory files that are sealed, for processes that share memory without trusting each other.

Sealed against shrinking, because whoever has mapped a file that another process cut short dies of SIGBUS. Of mode 0600
and the maker's, because a memfd is born 0777: who was given a descriptor that only reads could otherwise open it again
for writing.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SIZE: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def zeroed(name: str, size: int) -> int:
    """Make `size` zero octets that can be written to and not resized; the descriptor.

    OSError where memory or descriptors are wanting.
    """
    with _made(name, _SIZE) as fd:
        os.ftruncate(fd, size)
    return fd


def frozen(name: str, data: bytes) -> int:
    """Make a file of this data that nobody can change any more; the descriptor.  OSError as above."""
    with _made(name, _SIZE | fcntl.F_SEAL_WRITE) as fd, open(fd, "wb", closefd=False) as file:
        file.write(data)
    return fd


@contextmanager
def _made(name: str, seals: int) -> Iterator[int]:
    """Make an empty file and seal it when it has been filled."""
    fd = os.memfd_create(f"steelyard-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.fchmod(fd, 0o600)
        yield fd
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(fd)
        raise
