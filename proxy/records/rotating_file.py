"""A private, bounded file of lines in the state directory: append, rotate once, read back.

The file is 0600 in a directory of 0750 that is made when missing. It is opened relative to that directory and never
through a symbolic link; a directory that others may write to, and a file that is not a plain one of our own, are refused
rather than trusted.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from proxy.records.private_files import open_directory, open_file

SIZE_MAX: Final = 2 * 1024 * 1024
"""Bytes of a file before it is rotated; two are kept."""


class RotatingFileError(Exception):
    """The file cannot be used; says which, and why."""


class RotatingFile:
    """Lines of bytes in DIRECTORY/NAME, the older half in NAME.1. Raises RotatingFileError only."""

    def __init__(self, directory: Path, name: str, size_max: int = SIZE_MAX) -> None:
        self._directory = directory
        self._name = name
        self._size_max = size_max
        self._torn = False
        self._size = 0
        self._file = -1
        self._dir = -1
        with self._blamed():
            try:
                self._dir = open_directory(directory)
                self._reopen()
            except BaseException:
                self.close()
                raise

    def lines(self) -> Iterator[bytes]:
        """Yield the complete lines of both files, oldest first; a torn last line is left out."""
        with self._blamed():
            pieces = _read(self._dir, self._name, 2 * self._size_max)
        for piece in pieces:
            yield from piece

    def append(self, line: bytes) -> None:
        """Write one line; when only a part of it fits on the disk, the next line starts on one of its own."""
        with self._blamed():
            if self._file < 0 or self._size + len(line) + 1 > self._size_max:
                self._rotate()
            data = b"\n" + line + b"\n" if self._torn else line + b"\n"
            written = os.write(self._file, data)
            self._size += written
            self._torn = written < len(data)
            if self._torn:
                raise OSError(f"only {written} of {len(data)} bytes written")

    def close(self) -> None:
        """Close both descriptors; harmless when done twice."""
        for fd in (self._file, self._dir):
            if fd >= 0:
                os.close(fd)
        self._file = self._dir = -1

    def _rotate(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            os.rename(self._name, f"{self._name}.1", src_dir_fd=self._dir, dst_dir_fd=self._dir)
        self._reopen()

    def _reopen(self) -> None:
        self._file = open_file(self._dir, self._name, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        self._size = os.fstat(self._file).st_size
        self._torn = self._size > 0 and os.pread(self._file, 1, self._size - 1) != b"\n"

    @contextlib.contextmanager
    def _blamed(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = error.strerror or str(error)
            raise RotatingFileError(f"{self._directory / self._name}: {why}") from error


def recorded_lines(directory: Path, name: str) -> list[bytes]:
    """Return the lines of DIRECTORY/NAME.1 and NAME, and change nothing; RotatingFileError."""
    try:
        fd = open_directory(directory, make=False)
        try:
            return [line for piece in _read(fd, name, 2 * SIZE_MAX) for line in piece]
        finally:
            os.close(fd)
    except OSError as error:
        raise RotatingFileError(f"{directory / name}: {error.strerror or error}") from error


def _read(directory: int, name: str, most: int) -> list[list[bytes]]:
    """Return the complete lines at the end of each of the two files that is there; a torn last line is left out."""
    found = []
    for one in (f"{name}.1", name):
        try:
            fd = open_file(directory, one, os.O_RDONLY)
        except FileNotFoundError:
            continue
        with os.fdopen(fd, "rb") as file:
            before = os.fstat(fd).st_size - most  # a line may have passed the bound; more is not ours
            file.seek(max(0, before))
            found.append(file.read(most).split(b"\n")[1 if before > 0 else 0 : -1])
    return found
