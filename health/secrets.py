"""Passwords for probes, named by the files that hold them: nothing else of health knows what they are.

The health process may not be able to read these files: there the master reads them and hands them over (`Secrets.update`).
By hand (`check --live`) they are read from the disk each time (`FromDisk`).  Neither ever shows what it holds.
"""

import os
import stat
from collections.abc import Mapping
from typing import Protocol

LARGEST = 4096  # bytes of a password file


class NoSecret(Exception):  # noqa: N818 - named for what it says
    """There is no such secret; the text says why, and names the file only."""


class Source(Protocol):
    """Where probes get their passwords from."""

    def get(self, path: str) -> str:
        """Return the secret in the file `path`; raises `NoSecret` in words."""


class FromDisk:
    """Reads the file each time."""

    def get(self, path: str) -> str:
        """Return the secret in `path`."""
        return text_of(path, read(path))


class Secrets:
    """What somebody with the right to read the files has handed over: path -> content, or why there is none in words."""

    def __init__(self) -> None:
        self._held: dict[str, bytes | str] = {}

    def __repr__(self) -> str:
        return f"<Secrets {len(self._held)}>"

    def update(self, held: Mapping[str, bytes | str]) -> set[str]:
        """Replace all that is held; returns the paths whose content is another than before."""
        changed = {path for path in held.keys() | self._held.keys() if held.get(path) != self._held.get(path)}
        self._held = dict(held)
        return changed

    def get(self, path: str) -> str:
        """Return the secret of `path`."""
        held = self._held.get(path)
        if held is None:
            raise NoSecret(f"password file {path} was not handed over")
        if isinstance(held, str):
            raise NoSecret(held)
        return text_of(path, held)


def read(path: str) -> bytes:
    """Return what the file `path` holds; raises `NoSecret` for what is missing, unreadable, no file or too large.

    Never blocks on what is no file (a pipe that somebody put in its place).
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise NoSecret(f"password file {path} is missing") from None
    except OSError as error:
        raise NoSecret(f"password file {path} cannot be read: {os.strerror(error.errno or 0)}") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise NoSecret(f"password file {path} is no file")
        data = os.pread(fd, LARGEST + 1, 0)
    except OSError as error:
        raise NoSecret(f"password file {path} cannot be read: {os.strerror(error.errno or 0)}") from None
    finally:
        os.close(fd)
    if len(data) > LARGEST:
        raise NoSecret(f"password file {path} is larger than {LARGEST} bytes")
    return data


def text_of(path: str, data: bytes) -> str:
    """Return a file's content as a password: without its line's end; raises `NoSecret` if it is no text."""
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        pass  # the error would carry the secret
    raise NoSecret(f"password file {path} is not UTF-8")
