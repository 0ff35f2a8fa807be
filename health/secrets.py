"""The files that probes need: passwords, keys, and the CA certificates that TLS trusts.

The health process may not be able to read these files, so the master reads them and passes them on (`Secrets.update`).
`check --live` reads them from the disk each time (`FromDisk`).  Neither class ever shows the contents.  A path may be
`credential:NAME`: the file is then a credential of the service manager.
"""

import os
import stat
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from health.credentials import NoCredential, is_credential, located

LARGEST: Final = 4096  # bytes of a password file


class Kind(NamedTuple):
    """The purpose of a file: its name in messages, and the most bytes it may have."""

    label: str
    largest: int = LARGEST


PASSWORD: Final = Kind("password file")
AUTHORITIES: Final = Kind("tls-ca-file", 1 << 20)  # Debian's bundle of all authorities has 0.2 MiB
PUBLIC_KEY: Final = Kind("public-key-file", 16384)
KINDS: Final = {"password_file": PASSWORD, "tls_ca_file": AUTHORITIES, "public_key_file": PUBLIC_KEY}
"""The fields of a probe that name a file -> the kind of the file."""


class NoSecret(Exception):  # noqa: N818 - named for what it says
    """The file is missing or useless; the text says why, and names the file but never its contents."""


class Source(Protocol):
    """Gives probes the contents of their files."""

    def get(self, path: str) -> str:
        """Return the password in the file `path`; raises `NoSecret`."""

    def content(self, path: str, kind: Kind) -> bytes:
        """Return the contents of `path`, a file of that kind; raises `NoSecret`."""


class FromDisk:
    """Reads the file each time."""

    def get(self, path: str) -> str:
        """Return the password in `path`."""
        return text_of(path, read(path))

    def content(self, path: str, kind: Kind) -> bytes:
        """Return the contents of `path`."""
        return read(path, kind)


class Secrets:
    """The files that the master has passed on: path -> contents, or the reason why there are none as text."""

    def __init__(self) -> None:
        self._held: dict[str, bytes | str] = {}

    def __repr__(self) -> str:
        return f"<Secrets {len(self._held)}>"

    def update(self, held: Mapping[str, bytes | str]) -> set[str]:
        """Replace all files; return the paths whose contents have changed."""
        changed = {path for path in held.keys() | self._held.keys() if held.get(path) != self._held.get(path)}
        self._held = {path: now if path in changed else self._held[path] for path, now in held.items()}
        return changed

    def get(self, path: str) -> str:
        """Return the password of `path`."""
        return text_of(path, self.content(path, PASSWORD))

    def content(self, path: str, kind: Kind) -> bytes:
        """Return the contents that the master passed on for `path`."""
        held = self._held.get(path)
        if held is None:
            raise NoSecret(f"{kind.label} {path} was not passed to the health process")
        if isinstance(held, str):
            raise NoSecret(held)
        return held


def read(path: str, kind: Kind = PASSWORD) -> bytes:
    """Return the contents of `path`; raises `NoSecret` if it is missing, unreadable, not a file, too large or empty.

    Never blocks on a pipe in the place of the file.
    """
    what = f"{kind.label} {path}"
    try:
        fd = os.open(located(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except NoCredential as why:
        raise NoSecret(f"{what} cannot be read: {why}") from None
    except FileNotFoundError:
        unit = ": the unit's LoadCredential= does not name it" if is_credential(path) else ""
        raise NoSecret(f"{what} is missing{unit}") from None
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
    """Return a file's contents as a password, without the end of line; raises `NoSecret` if they are not UTF-8."""
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        pass  # the error would carry the secret
    raise NoSecret(f"{PASSWORD.label} {path} is not UTF-8")
