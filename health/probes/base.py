"""What every probe stands on: an attempt with its descriptors, its transcript and the words for its end.

A probe is one small class with one `check`.  It returns what it found or raises `Failed`; timing, counting, logging and
closing live elsewhere.  The deadline is not the probe's business either: it says before each wait what will be missing
(`attempt.missing = "no answer to the connect"`, `attempt.aside` what came instead), and is cancelled wherever it waits.  Every descriptor of a run is
opened through its `Attempt` and closed at its end, however it ends, so no step of a probe can leak one (H4).
"""

import asyncio
import contextlib
import errno
import os
import socket
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from health.spec import ProbeBase

READ_LIMIT = 65536  # bytes that one run of a probe reads at most (H4)
READ_COST = 64  # bytes that each read counts for at least: tiny segments and empty datagrams are bounded too
FIRST_OWN_PORT = 1024  # no kernel picks lower local ports by itself
EXCERPT = 60  # characters of a server's words that a reason shows

Spec = TypeVar("Spec", bound=ProbeBase)

_OURS = frozenset((
    errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT,
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
    """This version has no such probe: the configuration asks for more than it can do."""


class Failed(Exception):  # noqa: N818 - a probe that fails is no error of the program
    """The backend failed the probe; the text says how, in words."""

    def __init__(self, reason: str, *, credentials_rejected: bool = False) -> None:
        super().__init__(reason)
        self.credentials_rejected = credentials_rejected


class OurFault(Exception):  # noqa: N818 - see Failed
    """The probe could not run for lack of something on this host: nothing is known of the backend."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A probe that passed: in words how, and whether the backend is fit for reserve only."""

    reason: str
    reserve: bool = False


class Attempt:
    """One run of a probe against `address`, `port`: at most `timeout` seconds from its making on.

    `lines` is the transcript: "-> " what we do, "<- " what comes back.
    """

    __slots__ = ("_begun", "_loop", "_opened", "address", "aside", "lines", "missing", "port", "timeout", "unread")

    def __init__(self, address: str, port: int, timeout: float) -> None:
        self.address = address
        self.port = port
        self.timeout = timeout
        self.lines: list[str] = []
        self.missing = "no answer"
        self.aside = ""
        self.unread = READ_LIMIT
        self._begun = time.perf_counter()
        self._loop = asyncio.get_running_loop()
        self._opened: list[socket.socket] = []

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self._begun

    @property
    def took(self) -> str:
        """How long the run has taken so far, in words."""
        return f"{self.elapsed * 1000:.1f} ms"

    @property
    def late(self) -> str:
        """What to say when the deadline passes now."""
        return f"{self.missing} within {self.timeout:g} s{self.aside}"

    def sent(self, text: str) -> None:
        """Note in the transcript what we did."""
        self.lines.append(f"-> {text}")

    def got(self, text: str) -> None:
        """Note in the transcript what came back."""
        self.lines.append(f"<- {text}")

    def close(self) -> None:
        """Close all that the run opened."""
        for opened in self._opened:
            opened.close()
        self._opened.clear()

    def _open(self, kind: socket.SocketKind) -> tuple[socket.socket, tuple[Any, ...]]:
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        name: tuple[Any, ...] = (self.address, self.port)
        if "%" in self.address:  # a link-local address: the zone becomes a number, without asking any server
            numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            name = socket.getaddrinfo(self.address, self.port, family, kind, 0, numeric)[0][4]
        try:
            opened = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as error:
            raise in_words(error) from None
        self._opened.append(opened)
        return opened, name

    async def connect_tcp(self) -> socket.socket:
        """Return a connected TCP socket; raises `Failed` in words."""
        self.sent(f"connect {where(self.address, self.port)}/tcp")
        self.missing = "no answer to the connect"
        opened, name = self._open(socket.SOCK_STREAM)
        result = opened.connect_ex(name)
        if result in {errno.EINPROGRESS, errno.EWOULDBLOCK}:
            await self.writable(opened)
            result = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if result == 0 and self.port >= FIRST_OWN_PORT and opened.getsockname() == opened.getpeername():
            result = errno.ECONNREFUSED  # met ourselves: nobody listens there, and our own port was the same
        if result:
            raise in_words(OSError(result, os.strerror(result)))
        self.got(f"connected, {self.took}")
        return opened

    def connect_udp(self) -> socket.socket:
        """Return a UDP socket on a random local port, connected, so that ICMP errors reach us at once (H3)."""
        self.sent(f"connect {where(self.address, self.port)}/udp")
        opened, name = self._open(socket.SOCK_DGRAM)
        result = opened.connect_ex(name)
        if result:
            raise in_words(OSError(result, os.strerror(result)))
        return opened

    async def receive_exactly(self, opened: socket.socket, size: int, what: str) -> bytes:
        """Return exactly `size` bytes of a stream; raises `Failed` where the server closes before (`what` it owed us)."""
        read = bytearray()
        while len(read) < size:
            data = await self.receive(opened, size - len(read))
            if not data:
                raise Failed(f"closed by the server after {len(read)} of {size} bytes of {what}")
            read += data
        return bytes(read)

    async def send(self, opened: socket.socket, data: bytes) -> None:
        """Send all of `data`."""
        view = memoryview(data)
        while view:
            try:
                view = view[opened.send(view) :]
            except BlockingIOError:
                await self.writable(opened)
            except OSError as error:
                raise in_words(error, opened) from None

    async def receive(self, opened: socket.socket, size: int) -> bytes:
        """Wait for data and return at most `size` bytes of it; b"" at the end of a stream.

        Raises `Failed` when the run has read `READ_LIMIT` bytes.  Gives way to the other probes each time, so that a
        server that never stops talking can neither outrun the deadline nor delay anybody (H4, H5).
        """
        while True:
            await self.readable(opened)
            try:
                data = opened.recv(size)
            except BlockingIOError:
                continue
            except OSError as error:
                raise in_words(error, opened) from None
            self.unread -= max(READ_COST, len(data))
            if self.unread < 0:
                raise Failed(f"talks without end: {READ_LIMIT // 1024} KiB read")
            return data

    async def readable(self, opened: socket.socket) -> None:
        """Wait until `opened` has something to read, or an error to tell."""
        waiter, number = self._loop.create_future(), opened.fileno()
        self._loop.add_reader(number, _wake, waiter)
        try:
            await waiter
        finally:
            self._loop.remove_reader(number)

    async def writable(self, opened: socket.socket) -> None:
        """Wait until `opened` is connected or takes more, or has an error to tell."""
        waiter, number = self._loop.create_future(), opened.fileno()
        self._loop.add_writer(number, _wake, waiter)
        try:
            await waiter
        finally:
            self._loop.remove_writer(number)


class Probe(ABC, Generic[Spec]):
    """One protocol's probe: made once a question, its `check` run again and again, never twice at a time."""

    constant: ClassVar[bool] = False
    """Whether the first outcome is the last one: it need not run again."""

    def __init__(self, spec: Spec) -> None:
        """Prepare what every run shares; raises `NotSupported` for what this version cannot do."""
        self.spec = spec

    @abstractmethod
    async def check(self, attempt: Attempt) -> Finding:
        """Ask the backend; raises `Failed` or `OurFault`, and is cancelled at the deadline."""


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def where(address: str, port: int) -> str:
    """Return "192.0.2.1:53" or "[2001:db8::1]:53"."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def in_words(error: OSError, opened: socket.socket | None = None) -> Failed | OurFault:
    """Return what an operating system's error means for the verdict: the backend's fault or ours."""
    code = error.errno or 0
    if code in _OURS:
        return OurFault(f"{os.strerror(code)} on this host")
    if code == errno.ECONNREFUSED and opened is not None and opened.type == socket.SOCK_DGRAM:
        return Failed("port closed (ICMP port unreachable)")
    return Failed(_WORDS.get(code) or os.strerror(code))


def excerpt(data: bytes | bytearray) -> str:
    """Return the start of what a server said, harmless on a terminal and in a log."""
    shown = data[: EXCERPT + 1].decode("ascii", "backslashreplace")
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in shown)
    return f'"{shown[:EXCERPT]}…"' if len(shown) > EXCERPT else f'"{shown}"'


def drain(opened: socket.socket, limit: int = READ_LIMIT) -> None:
    """Say that we are done and read what has come meanwhile, so that closing sends FIN rather than RST."""
    with contextlib.suppress(OSError):
        opened.shutdown(socket.SHUT_WR)
        while limit > 0 and (data := opened.recv(min(limit, 16384))):
            limit -= len(data)
