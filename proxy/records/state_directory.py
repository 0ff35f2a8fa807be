"""The state directory: private files in it, and small documents that a restart must not forget.

Everything is opened relative to the directory and never through a symbolic link; a directory that others may write to, and
a file that is not a plain one of our own, are refused rather than trusted.
"""

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Any, Final

DOCUMENT_MAX: Final = 4 << 20
"""Octets of a document."""


class StateError(Exception):
    """A document cannot be read or written; says which, and why."""


def load(directory: Path, name: str) -> Any:
    """Return the JSON document NAME, None if there is none; StateError for one that cannot be read.  Makes nothing."""
    try:
        held = open_directory(directory, make=False)
        try:
            with os.fdopen(open_file(held, name, os.O_RDONLY), "rb") as file:
                return json.loads(file.read(DOCUMENT_MAX))
        finally:
            os.close(held)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise StateError(f"{directory / name}: {getattr(error, 'strerror', None) or error}") from error


def save(directory: Path, name: str, document: Any) -> None:
    """Replace the JSON document NAME as a whole: written beside it, synced, renamed; StateError, and the old one stays."""
    beside = f"{name}.new"
    text = json.dumps(document, ensure_ascii=False).encode(errors="replace")
    if len(text) > DOCUMENT_MAX:
        raise StateError(f"{directory / name}: {len(text)} octets are more than the {DOCUMENT_MAX} that may be kept")
    try:
        held = open_directory(directory)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=held)  # of a life that was cut off, or planted
            with os.fdopen(open_file(held, beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.rename(beside, name, src_dir_fd=held, dst_dir_fd=held)
            os.fsync(held)
        finally:
            os.close(held)
    except OSError as error:
        raise StateError(f"{directory / name}: {error.strerror or error}") from error


def open_directory(path: Path, *, make: bool = True) -> int:
    """Return a descriptor of a directory that nobody else may write to, made (0750) when missing if `make`; OSError."""
    if make:
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o750)
    itself = path.lstat()
    if stat.S_ISLNK(itself.st_mode) and itself.st_uid not in {0, os.geteuid()}:
        raise OSError("the directory is a symbolic link of somebody else's")
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    status = os.fstat(fd)
    if status.st_uid not in {0, os.geteuid()} or status.st_mode & stat.S_IWOTH:
        os.close(fd)
        raise OSError("the directory belongs to somebody else or may be written by anybody")
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
