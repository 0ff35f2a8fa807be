"""A listening UDP socket: where a datagram came from, and answers that leave from the address that was asked.

A socket bound to one address answers from it by itself.  One bound to the wildcard would answer from whatever address
the route prefers, so it asks for IP_PKTINFO (IPv6: RFC 3542 section 6.2) and gives it back with the answer; it then
travels as the last element of the client.
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
UNSENT = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})  # this host is short of something

Buffer = bytearray | memoryview
Receive = Callable[[Buffer], tuple[int, Client]]
Reply = Callable[[Buffer | bytes, Client], int]

LINK_LOCAL = b"\xfe\x80"  # fe80::/10 (RFC 4291, section 2.5.6)

WILDCARDS = ("0.0.0.0", "::")


def prepare(sock: socket.socket, address: str) -> None:
    """Set what a listening socket needs before its first datagram; the master calls it when it binds."""
    if address == "0.0.0.0":
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    elif address == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)


def endpoint(sock: socket.socket, address: str) -> tuple[Receive, Reply]:
    """(receive, reply) for a listening socket: `receive(buffer)` -> (size, client), `reply(data, client)`.

    Both raise BlockingIOError where the socket is not ready, another OSError where it failed.
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
    """Return the address and port of ours that a client's datagram came to."""
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
    """The control message that makes an answer leave from where its datagram arrived, by any interface (IPv4).

    IPv4 tells in `spec_dst` which address of ours was asked; the interface is left to the route, as a reply may leave
    by another one than the question came in by.  IPv6 keeps it: a link-local address means nothing without.
    """
    if len(pktinfo) == _PKTINFO4.size:
        _, local, _ = _PKTINFO4.unpack(pktinfo)
        return _PKTINFO4.pack(0, local, b"\0\0\0\0")
    if pktinfo[0] == LINK_LOCAL[0] and pktinfo[1] & 0xC0 == LINK_LOCAL[1]:
        return pktinfo
    return pktinfo[:16] + b"\0\0\0\0"
