"""Listening UDP sockets: each answers from the local address that the client sent to.

A socket bound to one address answers from it.  A socket bound to the wildcard would answer from the address that the
route prefers.  So it asks for IP_PKTINFO (IPv6: RFC 3542 section 6.2), which is kept with the client and given back to
the kernel with the answer.

For IPv4 that is the local address alone (`spec_dst`): the route chooses the interface, so an answer may leave by another
one than the datagram arrived by.  Only a link-local IPv6 address keeps its interface, without which it has no meaning.
`proxy.relay.native.datagrams` reads and sends; in Python the control message is the last element of a client.
"""

import socket
import struct

from proxy.relay.plan import Member
from proxy.relay.sockets.address import Client, scope_of

# The socket module names these only from Python 3.14 (IPv4) on; the numbers are Linux's (linux/in.h, linux/in6.h).
IP_PKTINFO = 8
IPV6_RECVPKTINFO = 49
IPV6_PKTINFO = 50

_PKTINFO4 = struct.Struct("=I4s4s")  # interface, local address, address in the header

BATCH = 64  # datagrams read from one socket in one turn
LARGEST = 65535  # octets

LINK_LOCAL = b"\xfe\x80"  # fe80::/10 (RFC 4291, section 2.5.6)

WILDCARDS = ("0.0.0.0", "::")


def prepare(sock: socket.socket, address: str) -> None:
    """Set the options that a listening socket needs before its first datagram; the master calls it when it binds."""
    if address == "0.0.0.0":
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    elif address == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)


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
