"""The files that probes need: passwords, and the authorities that TLS trusts.  Nothing else of health knows what they hold.

The health process may not be able to read these files: there the master reads them and hands them over (`Secrets.update`).
By hand (`check --live`) they are read from the disk each time (`FromDisk`).  Neither ever shows what it holds.
"""

import os
import stat
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

LARGEST: Final = 4096  # bytes of a password file


class Kind(NamedTuple):
    """What a file is for: how messages call it, and how many bytes it may have."""

    label: str
    largest: int = LARGEST


PASSWORD: Final = Kind("password file")
AUTHORITIES: Final = Kind("tls-ca-file", 1 << 20)  # Debian's bundle of all authorities has 0.2 MiB
PUBLIC_KEY: Final = Kind("public-key-file", 16384)
KINDS: Final = {"password_file": PASSWORD, "tls_ca_file": AUTHORITIES, "public_key_file": PUBLIC_KEY}
"""The keys of a probe that name a file, as fields, and what each file is."""


class NoSecret(Exception):  # noqa: N818 - named for what it says
    """There is no such file, or nothing in it; the text says why, and names the file only."""


class Source(Protocol):
    """Where probes get the content of their files from."""

    def get(self, path: str) -> str:
        """Return the password in the file `path`; raises `NoSecret` in words."""

    def content(self, path: str, kind: Kind) -> bytes:
        """Return what the file `path` holds, a file of that kind; raises `NoSecret` in words."""


class FromDisk:
    """Reads the file each time."""

    def get(self, path: str) -> str:
        """Return the password in `path`."""
        return text_of(path, read(path))

    def content(self, path: str, kind: Kind) -> bytes:
        """Return what `path` holds."""
        return read(path, kind)


class Secrets:
    """What somebody with the right to read the files has handed over: path -> content, or why there is none in words."""

    def __init__(self) -> None:
        self._held: dict[str, bytes | str] = {}

    def __repr__(self) -> str:
        return f"<Secrets {len(self._held)}>"

    def update(self, held: Mapping[str, bytes | str]) -> set[str]:
        """Replace all that is held; returns the paths whose content is another than before."""
        changed = {path for path in held.keys() | self._held.keys() if held.get(path) != self._held.get(path)}
        self._held = {path: now if path in changed else self._held[path] for path, now in held.items()}
        return changed

    def get(self, path: str) -> str:
        """Return the password of `path`."""
        return text_of(path, self.content(path, PASSWORD))

    def content(self, path: str, kind: Kind) -> bytes:
        """Return what was handed over for `path`."""
        held = self._held.get(path)
        if held is None:
            raise NoSecret(f"{kind.label} {path} was not passed to the health process")
        if isinstance(held, str):
            raise NoSecret(held)
        return held


def read(path: str, kind: Kind = PASSWORD) -> bytes:
    """Return what the file `path` holds; raises `NoSecret` for what is missing, unreadable, no file, too large or empty.

    Never blocks on what is no file (a pipe that somebody put in its place).
    """
    what = f"{kind.label} {path}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise NoSecret(f"{what} is missing") from None
    except OSError as error:
        raise NoSecret(f"{what} cannot be read: {os.strerror(error.errno or 0)}") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise NoSecret(f"{what} is not a file")
        data = os.pread(fd, kind.largest + 1, 0)
    except OSError as error:
        raise NoSecret(f"{what} cannot be read: {os.strerror(error.errno or 0)}") from None
    finally:
        os.close(fd)
    if len(data) > kind.largest:
        raise NoSecret(f"{what} is larger than {kind.largest} bytes")
    if not data.rstrip(b"\r\n"):
        raise NoSecret(f"{what} is empty")
    return data


def text_of(path: str, data: bytes) -> str:
    """Return a file's content as a password: without its line's end; raises `NoSecret` if it is no text."""
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        pass  # the error would carry the secret
    raise NoSecret(f"{PASSWORD.label} {path} is not UTF-8")
