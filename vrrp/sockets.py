"""Raw sockets for VRRP (IP protocol 112), and frames that announce which host has an address.

No call here blocks, and none raises for a fault of the network: packets that cannot be sent or read are counted.  The
sockets do not set IPV6_CHECKSUM: the kernel would silently drop packets that must be counted (RFC 9568 section 7.1).
"""

import asyncio
import contextlib
import errno
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

PROTOCOL = 112
TTL = 255
"""The TTL of every advert, demanded of multicast ones: it proves that no router has forwarded the packet."""
GROUPS = {4: "224.0.0.18", 6: "ff02::12"}

_MOST = 4096  # octets of one advert: 255 IPv6 addresses are 4088
_AT_ONCE = 64  # packets before other work gets a turn
_BUFFER = 1 << 20
_TOS = 0xC0  # internetwork control
_PRIORITY = 6  # of the same, for queues of this host
_IP_PKTINFO, _IP_RECVTTL = 8, 12
_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 49, 29
_FREEBIND = {4: (socket.IPPROTO_IP, 15), 6: (socket.IPPROTO_IPV6, 78)}
_GONE = {errno.ENETDOWN, errno.ENODEV, errno.ENXIO}
_LOCAL = {errno.EAGAIN, errno.ENOBUFS}


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet without its IP header.  Addresses are text."""

    source: str
    destination: str
    ttl: int
    data: bytes

    @property
    def multicast(self) -> bool:
        """Whether it was sent to the group of all VRRP routers."""
        return self.destination in GROUPS.values()


class Port:
    """One interface and one IP version (4 or 6): adverts in and out.

    `on_packet` gets each packet unchecked; `counters` counts failures.  Raises OSError if the socket cannot be opened:
    without CAP_NET_RAW, or when the interface is gone.
    """

    def __init__(
        self, interface: str, version: int, on_packet: Callable[[Packet], None], counters: Counter[str]
    ) -> None:
        self.interface = interface
        self.index = socket.if_nametoindex(interface)
        self.version = version
        self._on_packet = on_packet
        self._counters = counters
        self._outside: socket.socket | None = None
        self.error = 0
        """The error number of the last `send`; 0: the kernel took it."""
        self._family = socket.AF_INET if version == 4 else socket.AF_INET6  # noqa: PLR2004 - the version of IP
        self._socket = socket.socket(
            self._family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, PROTOCOL
        )
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.interface.encode() + b"\0")
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._prepare(self._socket)
            self._listen()
            asyncio.get_running_loop().add_reader(self._socket, self.read)
        except BaseException:
            self._socket.close()
            raise

    def _prepare(self, made: socket.socket) -> None:
        """Set the options for sending."""
        made.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _PRIORITY)
        if self.version == 4:  # noqa: PLR2004
            for option in (socket.IP_TTL, socket.IP_MULTICAST_TTL):
                made.setsockopt(socket.IPPROTO_IP, option, TTL)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _TOS)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
            made.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)  # nor packets of groups that other sockets joined
        else:
            for option in (socket.IPV6_UNICAST_HOPS, socket.IPV6_MULTICAST_HOPS):
                made.setsockopt(socket.IPPROTO_IPV6, option, TTL)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _TOS)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)

    def _listen(self) -> None:
        """Join the group, and have the kernel report TTL and destination of each packet."""
        made = self._socket
        if self.version == 4:  # noqa: PLR2004
            made.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
            made.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            joined = struct.pack("=4s4si", socket.inet_aton(GROUPS[4]), bytes(4), self.index)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        else:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            joined = struct.pack("=16si", socket.inet_pton(socket.AF_INET6, GROUPS[6]), self.index)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, joined)

    def _elsewhere(self) -> socket.socket:
        """Return the socket for adverts by another interface, as `_socket` is bound to its own.  Raises OSError."""
        if self._outside is None:
            made = socket.socket(self._family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, PROTOCOL)
            try:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the other socket receives
                # The source is an address of the interface below.
                level, option = _FREEBIND[self.version]
                made.setsockopt(level, option, 1)
                self._prepare(made)
            except BaseException:
                made.close()
                raise
            self._outside = made
        return self._outside

    def send(self, data: bytes, source: str, destination: str, index: int | None = None) -> bool:
        """Send one advert from `source`, an address of this host; return True if the kernel took it.

        `index` is another interface to leave by, that of the virtual router's own Ethernet address.
        """
        out = index or self.index
        if self.version == 4:  # noqa: PLR2004
            info = struct.pack("=i4s4s", out, socket.inet_aton(source), bytes(4))
            ancillary = [(socket.IPPROTO_IP, _IP_PKTINFO, info)]
            target: tuple[str, int] | tuple[str, int, int, int] = (destination, 0)
        else:
            info = struct.pack("=16si", socket.inet_pton(socket.AF_INET6, source), out)
            ancillary = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)]
            scoped = ip_address(destination).is_link_local or destination == GROUPS[6]
            target = (destination, 0, 0, out if scoped else 0)
        try:
            leaving = self._socket if out == self.index else self._elsewhere()
            leaving.sendmsg([data], ancillary, 0, target)
        except OSError as error:
            self.error = error.errno or errno.EIO
            self._counters["send_no_room" if error.errno in _LOCAL else "send_failed"] += 1
            return False
        self.error = 0
        return True

    def read(self) -> None:
        """Hand over the packets that wait in the socket, a bounded number of them."""
        for _ in range(_AT_ONCE):
            try:
                data, ancillary, flags, sender = self._socket.recvmsg(_MOST + 60, 256)
            except BlockingIOError:
                return
            except OSError as error:
                # ENETDOWN comes once when the interface goes down; errors that ICMP left do not matter.
                self._counters["interface_down" if error.errno in _GONE else "receive_failed"] += 1
                return
            if flags & socket.MSG_TRUNC:
                self._counters["too_long"] += 1
                continue
            packet = self._packet(data, ancillary, sender[0])
            if packet is not None:
                self._on_packet(packet)

    def _packet(self, data: bytes, ancillary: list[tuple[int, int, bytes]], sender: str) -> Packet | None:
        ttl, destination = -1, ""
        for level, kind, value in ancillary:
            if (level, kind) in {(socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)}:
                (ttl,) = struct.unpack_from("=i", value)
            elif (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
                destination = socket.inet_ntop(socket.AF_INET, value[8:12])
            elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
                destination = socket.inet_ntop(socket.AF_INET6, value[:16])
        if self.version == 4:  # noqa: PLR2004 - such sockets give the header too
            header = 4 * (data[0] & 0x0F) if data else 0
            if not 20 <= header <= len(data):  # noqa: PLR2004 - the kernel has looked; we look again
                self._counters["truncated"] += 1
                return None
            data = data[header:]
        return Packet(sender.partition("%")[0], destination, ttl, data)

    def close(self) -> None:
        """Leave the group."""
        with contextlib.suppress(RuntimeError):  # the loop may have gone first
            asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        if self._outside is not None:
            self._outside.close()


class Frames:
    """Sends whole Ethernet frames: gratuitous ARP, unsolicited neighbour advertisements.  OSError without CAP_NET_RAW.

    The socket is bound to no interface: a binding would not outlive an interface that is made again by name.
    """

    def __init__(self) -> None:
        # Protocol 0: it receives nothing.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)

    def send(self, interface: str, frame: bytes) -> Literal["", "send_no_room", "send_failed"]:
        """Send one frame by the interface that has this name now; return "", or the counter of the failure."""
        try:
            self._socket.sendto(frame, (interface, 0))
        except OSError as error:
            return "send_no_room" if error.errno in _LOCAL else "send_failed"
        return ""

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
