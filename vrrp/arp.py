"""Announcements: gratuitous ARP (RFC 5227) and unsolicited neighbour advertisements (RFC 4861), as Ethernet frames.

Gratuitous ARP, in the form of a request, which every system takes in (RFC 5227 section 3):
    +-----------------------+-----------------------+-------+
    | ff:ff:ff:ff:ff:ff     | MAC                   | 0806  |
    +-------+-------+---+---+-------+---------------+-------+---+---------------+
    |   1   | 0800  | 6 | 4 |   1   | MAC   |  address      | 0 |   address     |
    +-------+-------+---+---+-------+-------+---------------+---+---------------+

Unsolicited neighbour advertisement, to all nodes, from the address itself, R=1 S=0 O=1 (RFC 9568 section 6.4.2):
    +-----------------------+-----------------------+-------+
    | 33:33:00:00:00:01     | MAC                   | 86dd  |
    +-----------------------+-----------------------+-------+
    | IPv6 header: 32 octets of ICMPv6, hop limit 255, address -> ff02::1
    +-------+-------+---------------+-------------------------------------------+
    |  136  |   0   |   checksum    |R|S|O|  reserved, 29 bits                  |
    +-------+-------+---------------+-------------------------------------------+
    | address, 16 octets            | option: 2 | 1 | MAC                       |
    +-------------------------------+-------------------------------------------+
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from vrrp.packet import TTL, internet_checksum, pseudo_header

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_NA = struct.Struct("!BBHI16sBB6s")

_BROADCAST = b"\xff" * 6
_ALL_NODES = IPv6Address("ff02::1")
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_TYPE_ARP, _TYPE_IPV6 = 0x0806, 0x86DD
_ARP_HEAD = (1, 0x0800, 6, 4, 1)  # Ethernet, IPv4, their lengths, request
_ICMPV6 = 58
_ADVERTISEMENT = 136
_TARGET_ADDRESS = (2, 1)  # option type, and its length in units of 8 octets
_ROUTER, _SOLICITED, _OVERRIDE = 1 << 31, 1 << 30, 1 << 29


@dataclass(frozen=True, slots=True)
class GratuitousArp:
    """`address` is at `mac` (6 octets), to every host of the Ethernet."""

    address: IPv4Address
    mac: bytes


@dataclass(frozen=True, slots=True)
class NeighbourAdvertisement:
    """The same for IPv6."""

    address: IPv6Address
    mac: bytes
    router: bool = True
    solicited: bool = False
    override: bool = True


def virtual_mac(vrid: int, family: int) -> bytes:
    """Return the virtual router's MAC: 00-00-5E-00-01-VRID, for IPv6 00-00-5E-00-02-VRID (RFC 9568 section 7.3)."""
    return bytes((0x00, 0x00, 0x5E, 0x00, 1 if family == 4 else 2, vrid))  # noqa: PLR2004


def build(announcement: GratuitousArp | NeighbourAdvertisement) -> bytes:
    """Turn an announcement into an Ethernet frame, header included, for an AF_PACKET SOCK_RAW socket."""
    mac, address = announcement.mac, announcement.address.packed
    if isinstance(announcement, GratuitousArp):
        return _ETHERNET.pack(_BROADCAST, mac, _TYPE_ARP) + _ARP.pack(*_ARP_HEAD, mac, address, bytes(6), address)
    flags = _ROUTER * announcement.router | _SOLICITED * announcement.solicited | _OVERRIDE * announcement.override
    fields = flags, address, *_TARGET_ADDRESS, mac
    message = _NA.pack(_ADVERTISEMENT, 0, 0, *fields)
    checksum = internet_checksum(pseudo_header(announcement.address, _ALL_NODES, len(message), _ICMPV6) + message)
    header = _IPV6.pack(6 << 28, len(message), _ICMPV6, TTL, address, _ALL_NODES.packed)
    ethernet = _ETHERNET.pack(_ALL_NODES_MAC, mac, _TYPE_IPV6)
    return ethernet + header + _NA.pack(_ADVERTISEMENT, 0, checksum, *fields)


def parse(frame: bytes) -> GratuitousArp | NeighbourAdvertisement | None:
    """Read an announcement of anybody's, also in the form of a reply or to one host; None for anything else.

    An Ethernet may pad short frames.
    """
    if len(frame) < _ETHERNET.size:
        return None
    kind = _ETHERNET.unpack_from(frame)[2]
    body = frame[_ETHERNET.size :]
    if kind == _TYPE_ARP:
        return _parse_arp(body)
    return _parse_na(body) if kind == _TYPE_IPV6 else None


def _parse_arp(body: bytes) -> GratuitousArp | None:
    if len(body) < _ARP.size:
        return None
    *head, operation, mac, sender, _, target = _ARP.unpack_from(body)
    if tuple(head) != _ARP_HEAD[:4] or operation not in {1, 2} or sender != target:
        return None
    return GratuitousArp(IPv4Address(sender), mac)


def _parse_na(body: bytes) -> NeighbourAdvertisement | None:
    if len(body) < _IPV6.size + _NA.size:
        return None
    first, length, protocol, hops, source, destination = _IPV6.unpack_from(body)
    if (first >> 28, length, protocol, hops) != (6, _NA.size, _ICMPV6, TTL):
        return None
    message = body[_IPV6.size : _IPV6.size + length]
    header = pseudo_header(IPv6Address(source), IPv6Address(destination), length, protocol)
    kind, code, _, flags, address, *option, mac = _NA.unpack(message)
    if (kind, code, *option) != (_ADVERTISEMENT, 0, *_TARGET_ADDRESS) or internet_checksum(header + message):
        return None
    return NeighbourAdvertisement(
        IPv6Address(address), mac, bool(flags & _ROUTER), bool(flags & _SOLICITED), bool(flags & _OVERRIDE)
    )
