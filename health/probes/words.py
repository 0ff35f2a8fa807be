"""The ways a probe can fail: whose fault an error is, and which part of a server's text may be shown.

Each protocol has a table of the errors that a server answers with, and of the meaning of each for the verdict:

| meaning | the error is about | what follows |
| --- | --- | --- |
| dead | the server: it serves no client; also every error that no table lists | a failure (`Failed`) |
| login | the probe's account | a failure only if another backend accepts the account (`Failed`, `credentials_rejected`) |
| ours | a limit of the probe or of its account, which clients do not meet | the verdict stays, an alarm (`OurFault`) |
| full | the server's room: it serves the clients that it has, and takes no others now | fit for reserve (`Full`) |
"""

import errno
import os
import socket
from collections.abc import Sequence
from typing import Literal

Meaning = Literal["dead", "login", "ours", "full"]

EXCERPT = 60  # characters of a server's text that a reason shows at most

_OURS = frozenset((
    errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EAGAIN,
))  # fmt: skip

_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EPIPE: "connection closed by the server",
    errno.ETIMEDOUT: "connection timed out",
    errno.EHOSTUNREACH: "no route to host",
    errno.EHOSTDOWN: "host is down",
    errno.ENETUNREACH: "network unreachable",
    errno.ENOPROTOOPT: "no route to host (protocol unreachable)",
    errno.EACCES: "forbidden by a firewall (EACCES)",
    errno.EPERM: "forbidden by this host's firewall (EPERM)",
}


class NotSupported(Exception):  # noqa: N818 - named for what it says
    """This version has no such probe: the configuration asks for more than this version can do."""


class Failed(Exception):  # noqa: N818 - a probe that fails is no error of the program
    """The backend failed the probe; the text says how.

    `standby` means that the backend is healthy but has another role than the wanted one, which another backend may have.
    """

    def __init__(self, reason: str, *, credentials_rejected: bool = False, standby: bool = False) -> None:
        super().__init__(reason)
        self.credentials_rejected = credentials_rejected
        self.standby = standby


class OurFault(Exception):  # noqa: N818 - see Failed
    """The probe met a limit set for it alone, or this host could not run it: nothing is known about the backend.

    `lines` is the transcript so far.
    """

    lines: Sequence[str] = ()


class Full(Exception):  # noqa: N818 - see Failed
    """The backend has no room for another client; the text quotes its answer.  It keeps the clients that it has."""


def counted(number: int, one: str, many: str = "") -> str:
    """Return "1 row" or "2 rows"; `many` is the plural if it is not `one` with an s."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def blamed(meaning: Meaning, reason: str) -> Failed | OurFault | Full:
    """Return the exception that a probe raises for an error of this meaning."""
    if meaning == "full":
        return Full(reason)
    if meaning == "ours":
        return OurFault(reason)
    return Failed(reason, credentials_rejected=meaning == "login")


def where(address: str, port: int) -> str:
    """Return "192.0.2.1:53" or "[2001:db8::1]:53"."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def in_words(error: OSError, opened: socket.SocketType | None = None) -> Failed | OurFault:
    """Return the exception for an error of the operating system: the backend's fault or ours."""
    code = error.errno or 0
    if code in _OURS:
        return OurFault(f"{os.strerror(code)} on this host")
    if code == errno.ECONNREFUSED and opened is not None and opened.type == socket.SOCK_DGRAM:
        return Failed("port closed (ICMP port unreachable)")
    return Failed(_WORDS.get(code) or os.strerror(code))


def excerpt(data: bytes | bytearray) -> str:
    """Return the start of a server's text in a form that harms no terminal and no log."""
    shown = data[: EXCERPT + 1].decode("ascii", "backslashreplace")
    if not shown.isprintable():
        shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in shown)
    return f'"{shown[:EXCERPT]}…"' if len(shown) > EXCERPT else f'"{shown}"'
