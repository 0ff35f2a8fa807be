"""ICMP echoes: the messages, and the raw sockets that carry them for a process that may not open any (RFC 792, RFC 4443).

    |  type | code |   checksum    |
    |  identifier  |   sequence    |
    |  payload: 16 random octets   |

A raw socket receives every ICMP message of the host.  Two kinds count: an echo reply that repeats our identifier, sequence
and payload, and an error that contains the start of our request.
"""

import asyncio
import errno
import socket
import struct
from dataclasses import dataclass
from typing import Final

HEADER: Final = struct.Struct("!BBHHH")
PAYLOAD: Final = 16  # octets
_IPV4_LEAST: Final = 20  # octets of the shortest header
_IPV6: Final = 40
_PACKET: Final = 2048  # octets to read of a packet at most
_BUDGET: Final = 64  # packets read at a time

_REQUEST: Final = {4: 8, 6: 128}
_REPLY: Final = {4: 0, 6: 129}
ICMP_FILTER: Final = 1  # linux/icmp.h
SOL_RAW: Final = 255

_UNREACHABLE_4: Final = {
    0: "network unreachable", 1: "no route to host", 2: "protocol unreachable", 3: "port unreachable",
    4: "fragmentation needed", 9: "network forbidden by a firewall", 10: "host forbidden by a firewall",
    13: "forbidden by a firewall",
}  # fmt: skip
_UNREACHABLE_6: Final = {
    0: "network unreachable", 1: "forbidden by a firewall", 2: "beyond scope of the source", 3: "no route to host",
    4: "port unreachable", 5: "forbidden by a firewall", 6: "network unreachable",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Echo:
    """The identity of one request, which its answer repeats."""

    ident: int
    sequence: int
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Heard:
    """An ICMP message that answers one of our requests; `error` is its text, "" for a reply."""

    echo: Echo
    error: str = ""


def request(version: int, echo: Echo) -> bytes:
    """Return the echo request with its checksum for IPv4; for IPv6 the kernel adds it (RFC 3542, section 3.1)."""
    data = HEADER.pack(_REQUEST[version], 0, 0, echo.ident, echo.sequence) + echo.payload
    if version != 4:  # noqa: PLR2004
        return data
    return data[:2] + checksum(data).to_bytes(2, "big") + data[4:]


def checksum(data: bytes) -> int:
    """Return the Internet checksum of `data` (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def read(version: int, data: bytes) -> Heard | None:
    """Read an ICMP message without its IP header; return None if it answers no echo.  Accepts any octets."""
    if len(data) < HEADER.size:
        return None
    kind, code, _, ident, sequence = HEADER.unpack_from(data)
    if kind == _REPLY[version]:
        return Heard(Echo(ident, sequence, data[HEADER.size :]))
    if version == 4:  # noqa: PLR2004
        words = {3: _UNREACHABLE_4.get(code, f"unreachable (code {code})"), 11: "time to live exceeded"}.get(kind)
    else:
        words = {
            1: _UNREACHABLE_6.get(code, f"unreachable (code {code})"), 2: "packet too big", 3: "hop limit exceeded",
        }.get(kind)  # fmt: skip
    if words is None:
        return None
    inner = data[HEADER.size :]
    inner = without_ipv4_header(inner) if version == 4 else inner[_IPV6:]  # noqa: PLR2004
    if len(inner) < HEADER.size:
        return None
    kind, _, _, ident, sequence = HEADER.unpack_from(inner)
    return Heard(Echo(ident, sequence), words) if kind == _REQUEST[version] else None


def without_ipv4_header(packet: bytes) -> bytes:
    """Return the payload of an IPv4 packet, b"" if it has none."""
    size = (packet[0] & 0x0F) * 4 if packet else 0
    return packet[size:] if size >= _IPV4_LEAST else b""


def open_raw(version: int) -> socket.socket:
    """Open a raw socket that receives replies and errors only; raises OSError without CAP_NET_RAW."""
    family, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP) if version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)  # noqa: PLR2004
    )
    raw = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    if version == 4:  # noqa: PLR2004
        passing = 1 << 0 | 1 << 3 | 1 << 11
        raw.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", ~passing & 0xFFFFFFFF))
    return raw


class Echoes:
    """The raw sockets that all pings share; belongs to one asyncio loop."""

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}
        self._waiting: dict[tuple[int, int], tuple[str, Echo, asyncio.Future[Heard]]] = {}

    def adopt(self, raw: socket.socket) -> None:
        """Take over a raw ICMP socket; it replaces an earlier one of the same family."""
        version = 6 if raw.family == socket.AF_INET6 else 4
        self._drop(version)
        raw.setblocking(False)
        self._sockets[version] = raw
        asyncio.get_running_loop().add_reader(raw.fileno(), self._readable, version, raw)

    def can(self, version: int) -> bool:
        """Returns True if there is a socket for this version of IP."""
        return version in self._sockets

    async def ask(self, address: tuple[object, ...], echo: Echo) -> Heard:
        """Send a request and wait for its answer; raises OSError if the request cannot be sent."""
        host = str(address[0])
        version = 6 if ":" in host else 4
        key = (echo.ident, echo.sequence)
        if key in self._waiting:  # one case in four thousand million
            raise BlockingIOError(errno.EAGAIN, "two pings of one identity")
        future: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()
        self._waiting[key] = (host.partition("%")[0], echo, future)
        try:
            # A raw IPv6 socket interprets the port as a protocol.
            self._sockets[version].sendto(request(version, echo), (address[0], 0, *address[2:]))
            return await future
        finally:
            del self._waiting[key]

    def close(self) -> None:
        """Close the sockets."""
        for version in list(self._sockets):
            self._drop(version)

    def _drop(self, version: int) -> None:
        raw = self._sockets.pop(version, None)
        if raw is not None:
            asyncio.get_running_loop().remove_reader(raw.fileno())
            raw.close()

    def _readable(self, version: int, raw: socket.socket) -> None:
        for _ in range(_BUDGET):
            try:
                packet, (host, *_) = raw.recvfrom(_PACKET)
            except BlockingIOError:
                return
            except OSError:
                continue
            heard = read(version, without_ipv4_header(packet) if version == 4 else packet)  # noqa: PLR2004
            if heard is not None:
                self._heard(str(host).partition("%")[0], heard)

    def _heard(self, host: str, heard: Heard) -> None:
        """Give an answer to its request.  Any router may send an error, so only a reply must come from the host."""
        asked, echo, future = self._waiting.get((heard.echo.ident, heard.echo.sequence), (None, None, None))
        if future is not None and not future.done() and (heard.error or (asked == host and heard.echo == echo)):
            future.set_result(heard)
