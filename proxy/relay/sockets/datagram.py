"""Listening UDP sockets: they receive datagrams, and answer from the local address that the client sent to.

A socket bound to one address answers from it.  A socket bound to the wildcard would answer from the address that the
route prefers.  So it asks for IP_PKTINFO (IPv6: RFC 3542 section 6.2), keeps it as the last element of the client, and
gives it back to the kernel with the answer.
"""

import errno
import socket
import struct
from collections.abc import Callable

from proxy.relay.plan import Member
from proxy.relay.sockets.address import Client, scope_of

# The socket module names these only from Python 3.14 (IPv4) on; the numbers are Linux's (linux/in.h, linux/in6.h).
IP_PKTINFO = 8
IPV6_RECVPKTINFO = 49
IPV6_PKTINFO = 50

_PKTINFO4 = struct.Struct("=I4s4s")  # interface, local address, address in the header
_ANCILLARY_ROOM = socket.CMSG_SPACE(20)

BATCH = 64  # datagrams read from one socket in one turn
LARGEST = 65535  # octets
UNSENT = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})  # this host lacks buffers or memory

Buffer = bytearray | memoryview
Receive = Callable[[Buffer], tuple[int, Client]]
Reply = Callable[[Buffer | bytes, Client], int]

LINK_LOCAL = b"\xfe\x80"  # fe80::/10 (RFC 4291, section 2.5.6)

WILDCARDS = ("0.0.0.0", "::")


def prepare(sock: socket.socket, address: str) -> None:
    """Set the options that a listening socket needs before its first datagram; the master calls it when it binds."""
    if address == "0.0.0.0":
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    elif address == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)


def endpoint(sock: socket.socket, address: str) -> tuple[Receive, Reply]:
    """Return (receive, reply) for a listening socket: `receive(buffer)` -> (size, client), `reply(data, client)`.

    Both raise BlockingIOError if the socket is not ready, and another OSError if it failed.
    """
    if address not in WILDCARDS:
        return sock.recvfrom_into, sock.sendto
    level, kind = (
        (socket.IPPROTO_IP, IP_PKTINFO) if sock.family == socket.AF_INET else (socket.IPPROTO_IPV6, IPV6_PKTINFO)
    )

    def receive(buffer: Buffer) -> tuple[int, Client]:
        size, ancillary, _, client = sock.recvmsg_into([buffer], _ANCILLARY_ROOM)
        for got_level, got_kind, data in ancillary:
            if got_level == level and got_kind == kind:
                return size, (*client, _source(data))
        return size, (*client, b"")

    def reply(data: Buffer | bytes, client: Client) -> int:
        local = client[-1]
        ancillary = [(level, kind, local)] if local else []
        return sock.sendmsg([data], ancillary, 0, client[:-1])

    return receive, reply


def asked(member: Member, client: Client) -> tuple[str, int]:
    """Return the local address and port that a client's datagram was sent to."""
    local = client[-1]
    if member.address not in WILDCARDS or not local:
        return member.address, member.port
    if len(local) == _PKTINFO4.size:
        return socket.inet_ntop(socket.AF_INET, local[4:8]), member.port
    return socket.inet_ntop(socket.AF_INET6, local[:16]), member.port


def source_of(client: tuple[object, ...]) -> list[tuple[int, int, bytes]]:
    """Return the control message with which a transparent socket sends from a client's address."""
    bare, _, _ = str(client[0]).partition("%")
    if ":" not in bare:
        return [(socket.IPPROTO_IP, IP_PKTINFO, _PKTINFO4.pack(0, socket.inet_aton(bare), bytes(4)))]
    packed = socket.inet_pton(socket.AF_INET6, bare)
    return [(socket.IPPROTO_IPV6, IPV6_PKTINFO, packed + struct.pack("=I", scope_of(client)))]


def _source(pktinfo: bytes) -> bytes:
    """Return the control message that makes an answer leave from the address that its datagram was sent to.

    IPv4 has the local address in `spec_dst`.  The route chooses the interface: an answer may leave by another one than
    the datagram arrived by.  Only a link-local IPv6 address keeps its interface, without which it has no meaning.
    """
    if len(pktinfo) == _PKTINFO4.size:
        _, local, _ = _PKTINFO4.unpack(pktinfo)
        return _PKTINFO4.pack(0, local, b"\0\0\0\0")
    if pktinfo[0] == LINK_LOCAL[0] and pktinfo[1] & 0xC0 == LINK_LOCAL[1]:
        return pktinfo
    return pktinfo[:16] + b"\0\0\0\0"
