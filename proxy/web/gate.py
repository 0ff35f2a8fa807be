"""The first look at each connection of a stranger: who may connect, how many, how long a request's head may be and take.

One request a connection.  A request reaches the HTTP library only when its head is complete, so that neither a slow nor a
long one costs anything but its own bytes; and the whole connection has a bound in time, so that a client that reads
slowly is cut.  Every refusal has a counter.

    stranger -> Gate: address allowed? room? -> head complete within HEAD_TIME and HEAD_SIZE? -> aiohttp -> answer
"""

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final

MOST: Final = 128
"""Connections at a time."""
MOST_OF_ONE: Final = 64
"""Of them, of one address."""
MOST_REFUSED: Final = 64
"""Connections at a time that are only to be told why they are refused; further ones are cut without a word."""
HEAD_SIZE: Final = 16 << 10
"""Octets of a request's line and headers."""
HEAD_TIME: Final = 5.0
"""Seconds that they may take."""
ANSWER_TIME: Final = 30.0
"""Seconds that an answer may take, with a client that reads slowly."""
STREAM_TIME: Final = 600.0
"""Seconds of a stream of events; a browser connects anew."""
REST: Final = 64 << 10
"""Octets after the head that are read and thrown away: nobody here takes a body."""
REFUSAL_TIME: Final = 1.0
"""Seconds for a client to say something before it is told that it is refused."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Gate:
    """Makes the protocol of each connection; `inner()` makes that of the HTTP library behind it."""

    def __init__(self, inner: Callable[[], asyncio.Protocol], allow: Sequence[str]) -> None:
        self._inner = inner
        self.refused: Counter[str] = Counter()
        """Refusals by reason, since the start of this process."""
        self.open: Counter[Address | None] = Counter()
        """Connections by the client's address."""
        self.turned_away = 0
        """Connections that are being refused."""
        self.doors: set[Door] = set()
        self.allow(allow)

    def allow(self, networks: Sequence[str]) -> None:
        """Let in clients of these networks from now on."""
        self._allowed = [ipaddress.ip_network(network) for network in networks]

    def is_allowed(self, address: Address | None) -> bool:
        """Return True for a client that gets an answer."""
        return address is not None and any(
            address in network for network in self._allowed if network.version == address.version
        )

    def why_not(self, address: Address | None) -> "tuple[HTTPStatus, str] | None":
        """Return the status and the counter of a new connection that is refused; None to let it in."""
        if not self.is_allowed(address):
            return HTTPStatus.FORBIDDEN, "not_allowed"
        if self.open.total() >= MOST or self.open[address] >= MOST_OF_ONE:
            return HTTPStatus.SERVICE_UNAVAILABLE, "too_many"
        return None

    def __call__(self) -> "Door":
        """Return the protocol of a new connection."""
        return Door(self, self._inner)

    def close(self) -> None:
        """Cut all connections."""
        for door in list(self.doors):
            door.cut()


class Door(asyncio.Protocol):
    """One connection.  It stands between the transport and the HTTP library, and passes on what both say."""

    def __init__(self, gate: Gate, inner: Callable[[], asyncio.Protocol]) -> None:
        self._gate = gate
        self._make = inner
        self._inner: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._address: Address | None = None
        self._refusal: HTTPStatus | None = None
        self._head = bytearray()
        self._rest = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    # -- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let a client in, or refuse it."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport
        self._address = _address(transport.get_extra_info("peername"))
        gate, why = self._gate, self._gate.why_not(self._address)
        gate.doors.add(self)
        if why is None:
            gate.open[self._address] += 1
            self._until(HEAD_TIME, lambda: self._refuse(HTTPStatus.REQUEST_TIMEOUT, "too_slow"))
            return
        self._refusal = why[0]
        gate.refused[why[1]] += 1
        gate.turned_away += 1
        if gate.turned_away > MOST_REFUSED:
            self.cut()
        else:
            self._until(REFUSAL_TIME, self._say)

    def data_received(self, data: bytes) -> None:
        """Take a part of the head, or what follows it."""
        if self._refusal is not None:
            self._say()
        elif self._inner is not None:
            self._rest += len(data)
            if self._rest > REST:
                self._gate.refused["body"] += 1
                self.cut()
        else:
            self._head += data if self._head else data.lstrip(b"\r\n")  # RFC 9112, section 2.2
            end = self._head.find(b"\r\n\r\n")
            if end < 0 and len(self._head) <= HEAD_SIZE:
                return
            if end < 0 or end > HEAD_SIZE:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_long")
                return
            self._begin(bytes(self._head[: end + 4]))

    def eof_received(self) -> bool:
        """Go on with an answer to a client that only listens."""
        return self._inner is not None

    def pause_writing(self) -> None:
        """Pass on that the client does not read."""
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that it reads again."""
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if self._timer is not None:
            self._timer.cancel()
        gate = self._gate
        gate.doors.discard(self)
        if self._refusal is not None:
            gate.turned_away -= 1
        else:
            gate.open[self._address] -= 1
            if not gate.open[self._address]:
                del gate.open[self._address]
        if self._inner is not None:
            self._inner.connection_lost(exc)

    # -- what is done about it

    def stream(self) -> None:
        """Let the answer last as long as a stream may."""
        self._until(STREAM_TIME, self.cut)

    def cut(self) -> None:
        """End the connection, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    def _begin(self, head: bytes) -> None:
        self._head.clear()
        self._until(ANSWER_TIME, self._late)
        assert self._transport is not None  # noqa: S101 - for the type checker
        self._inner = self._make()
        self._inner.connection_made(self._transport)
        self._inner.data_received(head)

    def _late(self) -> None:
        self._gate.refused["too_slow"] += 1
        self.cut()

    def _refuse(self, status: HTTPStatus, counter: str) -> None:
        self._gate.refused[counter] += 1
        self._answer(status)

    def _say(self) -> None:
        if self._refusal is not None:
            self._answer(self._refusal)

    def _answer(self, status: HTTPStatus) -> None:
        """Answer without the HTTP library, and close; a client that does not take even that is cut."""
        if self._transport is None or self._transport.is_closing():
            return
        body = f"{status.value} {status.phrase}\n".encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        self._transport.write(head.encode() + body)
        self._transport.close()
        self._until(REFUSAL_TIME, self.cut)

    def _until(self, seconds: float, act: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, act)


def _address(peer: object) -> Address | None:
    """Return the address of a peer, without the interface of a link-local one."""
    try:
        return ipaddress.ip_address(str(peer[0]).partition("%")[0])  # type: ignore[index]
    except (ValueError, TypeError, IndexError):
        return None
