"""Resets the connections of an address before it is removed, so that their clients notice at once (V22).

sock_diag(7): the kernel lists the TCP sockets that are bound to the address, and destroys each (SOCK_DESTROY), which
sends an RST.  Once the address is gone no RST could leave from it, and clients would wait for their own timeouts.
"""

import asyncio
import contextlib
import errno
import socket
import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from vrrp.packet import IPAddress

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 20, 21
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_TIME_WAIT, _CLOSE, _LISTEN = 6, 7, 10
_STATES = 0x1FFE & ~(1 << _TIME_WAIT | 1 << _CLOSE | 1 << _LISTEN)
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ID = slice(4, 52)  # inet_diag_sockid in an answer: ports, source, destination, interface, cookie
_SOURCE = slice(8, 24)
_INTERFACE = struct.Struct("=I")
_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:192.0.2.1
_SLICE = 64  # sockets that are destroyed at once: about a millisecond
_MOST = 1 << 15


Place = tuple[bytes, int]
"""An address, and the interface that a link-local one is of; 0 for every interface."""


class Resets:
    """Resets the connections of all routers: calls that come during one listing share the next one."""

    def __init__(self) -> None:
        self._next: _Round | None = None
        self._turn = asyncio.Lock()

    async def of(self, addresses: Collection[IPAddress], index: int, still: Callable[[], bool]) -> int:
        """Reset the connections of these addresses of interface `index`, if `still()`; return how many.

        Raises OSError if the kernel cannot (CONFIG_INET_DIAG_DESTROY) or the process may not (CAP_NET_ADMIN).
        """
        if self._next is None:
            self._next = _Round()
            self._next.task = asyncio.create_task(self._work(self._next))
        mine = self._next
        places = [place_of(one, index) for one in addresses]
        mine.asked.append((places, still))
        assert mine.task is not None  # noqa: S101 - for the type checker
        counts = await asyncio.shield(mine.task)
        return sum(counts[place] for place in places)

    async def _work(self, mine: "_Round") -> Counter[Place]:
        async with self._turn:
            await asyncio.sleep(0)  # other routers leave in the same moment
            self._next = None
            return await _reset({place for places, still in mine.asked if still() for place in places})


@dataclass(slots=True)
class _Round:
    """The calls that share one listing."""

    asked: list[tuple[list[Place], Callable[[], bool]]] = field(default_factory=list)
    task: asyncio.Task[Counter[Place]] | None = None


def place_of(address: IPAddress, index: int) -> Place:
    """Return the address with its interface, if it is link-local."""
    return address.packed, index if address.is_link_local and address.version == 6 else 0  # noqa: PLR2004


async def reset_connections(address: str, index: int = 0) -> int:
    """Reset every TCP connection of this host from that address; return how many.  Listening sockets stay.

    `index` is the interface of a link-local address.

    Raises OSError if the kernel cannot (CONFIG_INET_DIAG_DESTROY) or the process may not (CAP_NET_ADMIN).
    """
    return sum((await _reset({place_of(ip_address(address), index)})).values())


async def _reset(places: Collection[Place]) -> Counter[Place]:
    """Reset the connections of all these addresses, with one listing of each IP version."""
    counts: Counter[Place] = Counter()
    if not places:
        return counts
    only_six = all(len(packed) == 16 for packed, _ in places)  # noqa: PLR2004 - octets of an IPv6 address
    with _socket() as kernel:
        # An IPv6 socket may have an IPv4 address.
        for family in (socket.AF_INET6,) if only_six else (socket.AF_INET, socket.AF_INET6):
            found = await _connections(family, places)
            for start in range(0, len(found), _SLICE):
                part = found[start : start + _SLICE]
                for (place, _), done in zip(part, _destroy(kernel, family, [one for _, one in part]), strict=True):
                    counts[place] += done
                await asyncio.sleep(0)
    return counts


async def _connections(family: int, places: Collection[Place]) -> list[tuple[Place, bytes]]:
    """Return address and identity of each connection of these addresses."""
    found = []
    body = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, _STATES) + bytes(48)
    with _socket() as kernel:
        kernel.send(_HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST | _DUMP, 1, 0) + body)
        done = False
        while not done:
            for kind, _, content in _messages(kernel.recv(_MOST)):
                if kind == _SOCK_DIAG_BY_FAMILY:
                    place = _place(family, content)
                    if place in places:
                        found.append((place, content[_ID]))
                else:
                    done = True
                    _check(content)
            await asyncio.sleep(0)
    return found


def _place(family: int, content: bytes) -> Place:
    source = content[_SOURCE]
    if family == socket.AF_INET:
        return source[:4], 0
    if source.startswith(_MAPPED):
        return source[12:], 0
    if source[0] == 0xFE and source[1] & 0xC0 == 0x80:  # noqa: PLR2004 - fe80::/10, link-local
        return source, _INTERFACE.unpack_from(content, 40)[0]
    return source, 0


def _destroy(kernel: socket.socket, family: int, wanted: Sequence[bytes]) -> list[bool]:
    """Destroy connections; return for each whether it still existed."""
    head = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, _STATES)
    size = _HEADER.size + len(head) + 48
    kernel.send(
        b"".join(
            _HEADER.pack(size, _SOCK_DESTROY, _REQUEST | _ACK, number, 0) + head + one
            for number, one in enumerate(wanted)
        )
    )
    done = [False] * len(wanted)
    answers = 0
    while answers < len(wanted):
        for _, number, content in _messages(kernel.recv(_MOST)):
            answers += 1
            with contextlib.suppress(FileNotFoundError):  # it ended by itself
                _check(content)
                done[number] = True
    return done


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
    made.settimeout(0.2)  # the kernel answers within the call; the timeout is for one that does not
    made.bind((0, 0))
    return made


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield type, sequence number and content of each message."""
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, _, number, _ = _HEADER.unpack_from(data, at)
        yield kind, number, data[at + _HEADER.size : at + size]
        at += (max(size, _HEADER.size) + 3) & ~3


def _check(content: bytes) -> None:
    """Raise OSError if the kernel refused."""
    (code,) = struct.unpack_from("=i", content) if len(content) >= 4 else (0,)  # noqa: PLR2004 - an int
    if code:
        raise OSError(-code, f"sock_diag: {errno.errorcode.get(-code, -code)}")
