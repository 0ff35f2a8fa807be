"""The connection to the other host, in the herald process: TLS, framing, one connection at a time, tries again and again.

It carries messages and understands none.  Laws:

- Only the address of the peer gets as far as a handshake, and only its certificate further.
- The host whose name is smaller connects; the other one only waits, and tries as well if nobody comes.  Of two
  connections the one that the smaller name made stays, of two such the newer one.
- A peer that sends faster than `RATE` is read more slowly; one that does not read is cut off.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.peer import tls
from proxy.peer.framing import Frames, FramingError, frame
from proxy.peer.link import Backoff

HANDSHAKE: Final = 5.0
"""Seconds for a connection and its handshake."""
HANDSHAKES: Final = 4
"""Handshakes at a time."""
IDLE: Final = 10.0
"""Seconds without an octet after which a connection is given up: there is a sign of life each second."""
RATE: Final = 200
"""Messages a second that are taken from the peer."""
UNREAD: Final = 1 << 20
"""Octets that may wait for the peer."""
PATIENCE: Final = 5.0
"""Seconds that the host with the greater name waits for the other one to connect."""
_READ: Final = 64 << 10
_TURNED_AWAY: Final = "it does not accept our certificate: its peer-certificate is another one"


@dataclass(frozen=True, slots=True)
class Ends:
    """Who talks to whom: names, addresses, the port of both; PEM texts."""

    node: str
    peer: str
    address: str
    peer_address: str
    port: int
    certificate: bytes = field(repr=False)
    peer_certificate: bytes = field(repr=False)

    @property
    def leads(self) -> bool:
        """Returns True if this host is the one that connects."""
        return self.node < self.peer


@dataclass(frozen=True, slots=True)
class Events:
    """What the transport reports.

    `up(number)` for a new connection, `down(number, why, refused)` for its end, with the number 0 for a try that failed.
    `message(number, payload)` for each message; `crowded()` returns True while no more is wanted.
    `broken(error)` for a bug, after which the transport is of no use.
    """

    up: Callable[[int], None]
    down: Callable[[int, str, bool], None]
    message: Callable[[int, bytes], None]
    crowded: Callable[[], bool]
    broken: Callable[[BaseException], None]


class _Open:
    """A connection."""

    def __init__(self, number: int, writer: asyncio.StreamWriter, *, led: bool) -> None:
        self.number = number
        self.writer = writer
        self.led = led
        """Whether the host with the smaller name made it."""
        self.why = ""

    def close(self, why: str) -> None:
        """Close at once, for this reason."""
        self.why = self.why or why
        self.writer.transport.abort()


class Transport:
    """The connection to one peer; `listener` listens at our address and stays the caller's."""

    def __init__(self, ends: Ends, listener: socket.socket, events: Events) -> None:
        """Prepare; raises PairCertificateError or ssl.SSLError if the certificates cannot be used."""
        tls.check(ends.certificate, ends.peer_certificate)
        self._ends = ends
        self._events = events
        self._listener = listener
        self._server = tls.context(ends.certificate, ends.peer_certificate, server=True)
        self._client = tls.context(ends.certificate, ends.peer_certificate, server=False)
        self._open: _Open | None = None
        self._count = 0
        self._handshakes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.strangers = 0
        """Connections from other addresses, closed at once."""

    def start(self) -> None:
        """Begin to accept and to connect."""
        self._run(self._accept())
        self._run(self._connect())

    async def close(self) -> None:
        """End everything."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._open is not None:
            self._open.writer.transport.abort()

    def send(self, number: int, payload: bytes) -> None:
        """Send a message on the connection of that number; nothing happens if there is another one, or none."""
        now = self._open
        if now is None or now.number != number:
            return
        now.writer.write(frame(payload))
        if now.writer.transport.get_write_buffer_size() > UNREAD:
            now.close(f"it does not read: {UNREAD >> 20} MiB wait")

    def drop(self, number: int, why: str) -> None:
        """Close the connection of that number."""
        if self._open is not None and self._open.number == number:
            self._open.close(why)

    # -- connections

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._events.broken(error)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        peer = ipaddress.ip_address(self._ends.peer_address)
        while True:
            try:
                connection, address = await loop.sock_accept(self._listener)
            except OSError:
                await asyncio.sleep(1.0)  # out of descriptors, perhaps: the next try may find some
                continue
            if ipaddress.ip_address(address[0].partition("%")[0]) != peer or self._handshakes >= HANDSHAKES:
                self.strangers += 1
                connection.close()
                continue
            self._run(self._serve(connection))

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_READ)
        protocol = asyncio.StreamReaderProtocol(reader)
        self._handshakes += 1
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=self._server, ssl_handshake_timeout=HANDSHAKE
            )
        except (OSError, ssl.SSLError, TimeoutError) as error:
            connection.close()
            self._failed(error)
            return
        finally:
            self._handshakes -= 1
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        await self._use(reader, writer, led=not self._ends.leads)

    async def _connect(self) -> None:
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        if not self._ends.leads:
            await asyncio.sleep(PATIENCE)
        while True:
            began = loop.time()
            lasted = 0.0
            if self._open is None:
                try:
                    async with asyncio.timeout(HANDSHAKE):
                        reader, writer = await asyncio.open_connection(
                            self._ends.peer_address, self._ends.port, local_addr=(self._ends.address, 0),
                            ssl=self._client, ssl_handshake_timeout=HANDSHAKE, limit=_READ,
                        )  # fmt: skip
                except (OSError, ssl.SSLError, TimeoutError) as error:
                    self._failed(error)
                else:
                    began = loop.time()
                    await self._use(reader, writer, led=self._ends.leads)
                    lasted = loop.time() - began
            await asyncio.sleep(backoff.failed(lasted) if self._open is None else PATIENCE)

    def _failed(self, error: Exception) -> None:
        if self._open is None:
            self._events.down(0, *_reason(error))

    async def _use(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, led: bool) -> None:
        """Use a connection until it ends."""
        connection = writer.get_extra_info("ssl_object")
        if connection is None or not tls.is_peer(connection, self._ends.peer_certificate):
            writer.transport.abort()
            self._events.down(0, "it has another certificate than peer-certificate", True)
            return
        before = self._open
        if before is not None and before.led and not led:
            writer.transport.abort()  # the one that the smaller name made stays
            return
        self._count += 1
        mine = self._open = _Open(self._count, writer, led=led)
        if before is not None:
            before.close("another connection took its place")
        self._events.up(mine.number)
        why, refused = "the connection ended", False
        try:
            if not await self._read(reader, mine) and not mine.why:
                why, refused = _TURNED_AWAY, True
        except FramingError as error:
            why, refused = f"it sends nonsense: {error}", True
        except (OSError, ssl.SSLError, TimeoutError) as error:
            why, refused = _reason(error)
        finally:
            writer.transport.abort()
            if self._open is mine:
                self._open = None
                self._events.down(mine.number, mine.why or why, refused and not mine.why)

    async def _read(self, reader: asyncio.StreamReader, mine: _Open) -> bool:
        """Read until the end; returns False if nothing came at all."""
        loop = asyncio.get_running_loop()
        frames, free, some = Frames(), loop.time(), False
        while self._open is mine:
            async with asyncio.timeout(IDLE):
                octets = await reader.read(_READ)
            if not octets:
                return some
            some = True
            for payload in frames.feed(octets):
                while self._events.crowded():  # noqa: ASYNC110 - a channel announces nothing
                    await asyncio.sleep(0.05)
                free = max(free, loop.time() - 1.0) + 1 / RATE
                if free > loop.time():
                    await asyncio.sleep(free - loop.time())
                if self._open is not mine:
                    return True
                self._events.message(mine.number, payload)
        return True


def _reason(error: Exception) -> tuple[str, bool]:
    """Return in words why there is no connection, and whether it is a refusal that only people can mend."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "it has another certificate than peer-certificate", True
    if isinstance(error, ssl.SSLError):
        reason = error.reason or "no reason"
        if "ALERT" in reason:
            return _TURNED_AWAY, True
        return f"it does not speak our TLS: {reason.lower().replace('_', ' ')}", True
    if isinstance(error, TimeoutError):
        return "no answer", False
    if isinstance(error, ConnectionRefusedError):
        return "connection refused: no daemon listens there", False
    text = getattr(error, "strerror", None) or str(error) or "the connection ended"
    return text.lower(), False
