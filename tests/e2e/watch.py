"""Watches which host has an address and which advertises, as the kernels report it, without a late or costly process.

A thread reads netlink in the hosts and VRRP packets in the client; the main thread asks it for the results. Or the
kernel is asked for the current addresses (`addresses_now`).
"""

import contextlib
import itertools
import math
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from tests.e2e.bed import Bed

VRRP = 112
GROUP = "224.0.0.18"
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTMGRP_IPV4_IFADDR = 0x10
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSGHDR = struct.Struct("=IHHII")
_IFADDRMSG = struct.Struct("=BBBBI")
_RTATTR = struct.Struct("=HH")
_SO_TIMESTAMPNS = 35  # a message of this type carries the kernel's time of arrival
_TIMESPEC = struct.Struct("=qq")


@dataclass(frozen=True)
class Told:
    """A report of a kernel, in monotonic seconds: a host has an address (again), or no longer has it."""

    at: float
    host: str
    present: bool


@dataclass(frozen=True)
class Seen:
    """An advert on the wire: its time of arrival (the kernel's wall clock, in seconds), its sender and its priority."""

    at: float
    source: str
    priority: int


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Split netlink data into messages, each as (type, body)."""
    while len(data) >= _NLMSGHDR.size:
        length, kind, *_ = _NLMSGHDR.unpack_from(data)
        if length < _NLMSGHDR.size:
            break
        message, data = data[_NLMSGHDR.size : length], data[length + 3 & ~3 :]
        yield kind, message


def _attributes(rest: bytes) -> Iterator[tuple[int, bytes]]:
    """Split the attributes of an rtnetlink message, each as (name, value)."""
    while len(rest) >= _RTATTR.size:
        size, name = _RTATTR.unpack_from(rest)
        if size < _RTATTR.size:
            break
        yield name, rest[_RTATTR.size : size]
        rest = rest[size + 3 & ~3 :]


def addresses_told(data: bytes) -> list[tuple[bool, str]]:
    """Return the IPv4 addresses in rtnetlink messages, each as (present, address); skip other messages."""
    return [
        (kind == _RTM_NEWADDR, socket.inet_ntoa(value))
        for kind, message in _messages(data)
        if kind in (_RTM_NEWADDR, _RTM_DELADDR)
        for name, value in _attributes(message[_IFADDRMSG.size :])
        if name == _IFA_LOCAL
    ]


def addresses_now(bed: Bed, host: str, interface: str = "eth0") -> set[str]:
    """Return the addresses that an interface of a host has now, of both families. Raises OSError.

    The kernel is asked directly, not with ip(8): a hundred programs a second would be half the load.
    """
    found: set[str] = set()
    with bed.inside(host), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as asked:
        index = socket.if_nametoindex(interface)
        body = _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        flags = _NLM_F_REQUEST | _NLM_F_DUMP
        asked.send(_NLMSGHDR.pack(_NLMSGHDR.size + len(body), _RTM_GETADDR, flags, 1, 0) + body)
        while True:
            for kind, message in _messages(asked.recv(1 << 17)):
                if kind == _NLMSG_DONE:
                    return found
                if kind == _NLMSG_ERROR:
                    number = -int.from_bytes(message[:4], "little", signed=True)
                    raise OSError(number, f"the addresses of {host} cannot be read")
                family, *_, where = _IFADDRMSG.unpack_from(message)
                wanted = _IFA_LOCAL if family == socket.AF_INET else _IFA_ADDRESS
                for name, value in _attributes(message[_IFADDRMSG.size :]):
                    if name == wanted and where == index:
                        found.add(socket.inet_ntop(family, value))


def advert_seen(packet: bytes, at: float) -> Seen | None:
    """Return the advert in a packet with its IPv4 header; None if the packet is too short."""
    header = 4 * (packet[0] & 0x0F) if packet else 0
    if header < 20 or len(packet) < header + 8:
        return None
    return Seen(at, socket.inet_ntoa(packet[12:16]), packet[header + 2])


def first(told: Sequence[Told], host: str, present: bool, since: float) -> float | None:
    """Return the seconds from `since` until a host has (or no longer has) the address: 0 if already so, None if never."""
    before = [one for one in told if one.host == host and one.at < since]
    if (before[-1].present if before else False) == present:
        return 0.0
    return next(
        (one.at - since for one in told if one.host == host and one.at >= since and one.present == present), None
    )


def changes(told: Sequence[Told]) -> list[Told]:
    """Return only the reports that are changes: the refresh of a lease is reported too, but is not a change."""
    state: dict[str, bool] = {}
    found = []
    for one in told:
        if state.get(one.host, False) != one.present:
            found.append(one)
        state[one.host] = one.present
    return found


def gaps(times: Sequence[float], begin: float = math.inf, end: float = -math.inf) -> list[float]:
    """Return the times between neighbours; the first and the last reach to the ends of the watched time, if given."""
    edges = [*([begin] if begin < math.inf else []), *times, *([end] if end > -math.inf else [])]
    return [max(0.0, later - earlier) for earlier, later in itertools.pairwise(edges)]


class Watch:
    """Follows `address` on `hosts`, and with `adverts` the adverts that reach that host; a context manager."""

    def __init__(self, bed: Bed, address: str, hosts: Sequence[str] = ("a", "b"), adverts: str | None = None) -> None:
        self.told: list[Told] = []
        self.adverts: list[Seen] = []
        self._address = address
        self._selector = selectors.DefaultSelector()
        self._ended = threading.Event()
        for host in hosts:
            made = bed.socket(host, socket.AF_NETLINK, socket.SOCK_RAW, 0)
            made.bind((0, _RTMGRP_IPV4_IFADDR))
            self._register(made, self._reader(made, host))
        if adverts is not None:
            made = bed.socket(adverts, socket.AF_INET, socket.SOCK_RAW, VRRP)
            made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            with bed.inside(adverts):
                index = socket.if_nametoindex("eth0")
            made.setsockopt(
                socket.IPPROTO_IP,
                socket.IP_ADD_MEMBERSHIP,
                struct.pack("=4s4si", socket.inet_aton(GROUP), bytes(4), index),
            )
            self._register(made, lambda: self._advert(made))
        self._thread = threading.Thread(target=self._follow, name="watch", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(5)
        self._selector.close()

    def _register(self, made: socket.socket, read: Callable[[], None]) -> None:
        made.setblocking(False)
        self._selector.register(made, selectors.EVENT_READ, read)

    def _reader(self, made: socket.socket, host: str) -> Callable[[], None]:
        def read() -> None:
            now = time.monotonic()
            for present, address in addresses_told(made.recv(65536)):
                if address == self._address:
                    self.told.append(Told(now, host, present))

        return read

    def _advert(self, made: socket.socket) -> None:
        packet, ancillary, _, _ = made.recvmsg(4096, 256)
        for level, kind, value in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, nanoseconds = _TIMESPEC.unpack(value[: _TIMESPEC.size])
                seen = advert_seen(packet, seconds + nanoseconds * 1e-9)
                if seen is not None:
                    self.adverts.append(seen)

    def _follow(self) -> None:
        while not self._ended.is_set():
            for key, _ in self._selector.select(0.2):
                with contextlib.suppress(BlockingIOError):
                    key.data()

    def holders(self) -> list[str]:
        """Return the hosts that have the address now."""
        state = {one.host: one.present for one in list(self.told)}
        return sorted(host for host, present in state.items() if present)

    def wait(self, host: str, present: bool, since: float, timeout: float) -> float | None:
        """Return the seconds from `since` until a host has the address, or no longer has it; None after `timeout` seconds."""
        while (found := first(list(self.told), host, present, since)) is None:
            if time.monotonic() > since + timeout:
                return None
            time.sleep(0.01)
        return found
