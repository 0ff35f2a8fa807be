"""Private files in a directory that no other user may write to.

Everything is opened relative to the directory and never through a symbolic link; a directory that others may write to, and
a file that is not a plain one of our own, are refused rather than trusted.  All of it may block.
"""

import contextlib
import fcntl
import os
import stat
from pathlib import Path
from typing import Final

_WORDS: Final = 400
"""Octets of what the owner of a lock says of itself."""


class HeldError(Exception):
    """Another process has the lock; in words, which."""


def lock(directory: int, name: str, owner: str) -> int:
    """Lock a file and return its descriptor; the lock lasts as long as the descriptor is open.

    `owner` is written into the file, for the error of the next process that tries.  Raises HeldError at once if another
    process has the lock, and OSError.
    """
    fd = open_file(directory, name, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        words = os.pread(fd, _WORDS, 0).decode(errors="replace").strip()
        os.close(fd)
        raise HeldError(words) from None
    except BaseException:
        os.close(fd)
        raise
    sign(fd, owner)
    return fd


def sign(fd: int, owner: str) -> None:
    """Write into a lock who has it."""
    with contextlib.suppress(OSError):  # a full disk: the lock holds without the text
        # Over what is there, which takes no room, and then as long as it is.
        os.ftruncate(fd, os.pwrite(fd, owner.encode()[:_WORDS], 0))


def open_directory(path: Path, *, make: bool = True) -> int:
    """Return a descriptor of a directory that no other user may write to, made (0750) if missing and `make`; OSError."""
    if make:
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o750)
    itself = path.lstat()
    if stat.S_ISLNK(itself.st_mode) and itself.st_uid not in {0, os.geteuid()}:
        raise OSError("the directory is a symbolic link of another user")
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    status = os.fstat(fd)
    if status.st_uid not in {0, os.geteuid()} or status.st_mode & stat.S_IWOTH:
        os.close(fd)
        raise OSError("the directory belongs to another user or any user may write to it")
    return fd


def open_file(directory: int, name: str, flags: int) -> int:
    """Return a descriptor of a plain private file of our own in a directory; OSError for anything else, links included."""
    # O_NONBLOCK: a planted FIFO must not hang us; it means nothing to a plain file.
    fd = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600, dir_fd=directory)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or status.st_uid not in {0, os.geteuid()}:
            raise OSError("it is not a plain file of our own")  # noqa: TRY301 - one check, one way out
        if status.st_mode & 0o077:
            os.fchmod(fd, 0o600)
    except BaseException:
        os.close(fd)
        raise
    return fd
