"""rtnetlink messages of interfaces and addresses, to octets and back (rtnetlink(7), linux/if_addr.h, linux/if_link.h).

    | length, 4 | type, 2 | flags, 2 | sequence, 4 | port, 4 |          every message, then its body
    | family | prefix length | flags | scope | interface, 4 |           of an address, then attributes
    | family | - | type, 2 | interface, 4 | flags, 4 | change, 4 |      of an interface, then attributes
    | length, 2 | type, 2 | value, padded to 4 octets |                 an attribute

pyroute2 reads the same messages in 0.3 ms each.  Five hundred addresses that are refreshed twice a second are a thousand
messages a second, so that would take a third of a processor.
"""

import functools
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

LEASE = 2
"""Seconds that the kernel keeps an address without a refresh."""

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
_ATTRIBUTE = struct.Struct("=HH")
_CACHEINFO = struct.Struct("=IIII")  # preferred, valid, two time stamps
_WORD = struct.Struct("=I")
_CODE = struct.Struct("=i")

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_F_REQUEST, _F_ACK, _F_DUMP_INTR, _F_DUMP, _F_REPLACE, _F_CREATE = 0x1, 0x4, 0x10, 0x300, 0x100, 0x400
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_EXT_MASK = 1, 3, 29
_SKIP_STATISTICS = 1 << 3  # RTEXT_FILTER_SKIP_STATS
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 6, 8
_TYPE = 0x3FFF  # of an attribute, without its flags
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_SECONDARY, _NODAD, _DADFAILED, _DEPRECATED, _TENTATIVE = 0x01, 0x02, 0x08, 0x20, 0x40  # IFA_F_
_FOREVER = 0xFFFFFFFF

GROUPS = 0x1 | 0x10 | 0x100
"""Bind an event socket to these to hear of interfaces and addresses (RTMGRP_LINK, _IPV4_IFADDR, _IPV6_IFADDR)."""


@dataclass(frozen=True, slots=True)
class Link:
    """An interface.  `up` only when it can carry packets: set up, and with a carrier."""

    index: int
    name: str
    mac: bytes
    up: bool


@dataclass(frozen=True, slots=True)
class Address:
    """An address of an interface.

    `usable` says that packets may leave from it; `lease` that it has the lifetimes that only this project gives.
    """

    index: int
    address: str
    prefix: int
    usable: bool
    secondary: bool
    lease: bool

    @property
    def key(self) -> tuple[int, str, int]:
        """What the kernel knows it by."""
        return self.index, self.address, self.prefix


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """An interface came, changed, or is gone (`link` is None); `index` is the kernel's number of it."""

    name: str
    link: Link | None
    index: int


@dataclass(frozen=True, slots=True)
class AddressChanged:
    """An address came, changed, or is gone."""

    address: Address
    present: bool


Change = LinkChanged | AddressChanged


@dataclass(frozen=True, slots=True)
class Request:
    """An order to the kernel, without the sequence number that `pack` gives it."""

    kind: int
    flags: int
    body: bytes


class IncompleteDumpError(OSError):
    """The tables changed while the kernel listed them (NLM_F_DUMP_INTR): some entries may be missing."""


def install(index: int, address: IPv4Address | IPv6Address, prefix: int, lifetime: int = LEASE) -> Request:
    """Return the order to install an address, or to refresh it, for `lifetime` seconds."""
    # Deprecated from the start (preferred 0), so that it is no source of connections that leave this host.
    more = _attribute(_IFA_CACHEINFO, _CACHEINFO.pack(0, lifetime, 0, 0))
    if address.version == 6:  # noqa: PLR2004 - the version of IP
        more += _attribute(_IFA_FLAGS, _WORD.pack(_NODAD))
    return Request(_RTM_NEWADDR, _F_REPLACE | _F_CREATE, _address_body(index, address, prefix) + more)


def removal(index: int, address: IPv4Address | IPv6Address, prefix: int) -> Request:
    """Return the order to remove an address."""
    return Request(_RTM_DELADDR, 0, _address_body(index, address, prefix))


def pack(requests: Sequence[Request], first: int) -> bytes:
    """Return the octets of orders, numbered from `first`.  The kernel answers the last one, and each that it refuses."""
    found = []
    last = len(requests) - 1
    for number, one in enumerate(requests):
        flags = one.flags | _F_REQUEST | (_F_ACK if number == last else 0)
        found.append(_HEADER.pack(_HEADER.size + len(one.body), one.kind, flags, first + number, 0) + one.body)
    return b"".join(found)


def refusals(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the sequence number of each order that was answered, and the error number: 0 for one that was carried out."""
    for kind, _, sequence, body in _messages(data):
        if kind == _NLMSG_ERROR:
            yield sequence, -_CODE.unpack_from(body)[0]


def dump_links() -> bytes:
    """Return the octets that ask for all interfaces."""
    return _dump(_RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0) + _attribute(_IFLA_EXT_MASK, _WORD.pack(_SKIP_STATISTICS)))


def dump_addresses() -> bytes:
    """Return the octets that ask for all addresses."""
    return _dump(_RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0))


def dumped(data: bytes) -> tuple[list[Change], bool]:
    """Return what one part of an answer to `dump_...` lists, and whether it is the last part.

    Raises OSError for what the kernel refused, and IncompleteDumpError.
    """
    changes: list[Change] = []
    for kind, flags, _, body in _messages(data):
        if flags & _F_DUMP_INTR:
            raise IncompleteDumpError("the tables changed while they were read")
        if kind in (_NLMSG_ERROR, _NLMSG_DONE):
            code = _CODE.unpack_from(body)[0] if len(body) >= _CODE.size else 0
            if code:
                raise OSError(-code, "netlink dump")
            return changes, True
        changes += _change(kind, body)
    return changes, False


def changes_in(data: bytes) -> list[Change]:
    """Return what the kernel says has changed."""
    return [change for kind, _, _, body in _messages(data) for change in _change(kind, body)]


def _dump(kind: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, _F_REQUEST | _F_DUMP, 1, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _address_body(index: int, address: IPv4Address | IPv6Address, prefix: int) -> bytes:
    packed = address.packed
    if address.version == 4:  # noqa: PLR2004
        head = _ADDRESS.pack(socket.AF_INET, prefix, 0, 0, index)
        return head + _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
    return _ADDRESS.pack(socket.AF_INET6, prefix, 0, 0, index) + _attribute(_IFA_ADDRESS, packed)


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield type, flags, sequence number and body of each message."""
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
        if size < _HEADER.size:
            return
        yield kind, flags, sequence, data[at + _HEADER.size : at + size]
        at += (size + 3) & ~3


def _attributes(body: bytes, at: int) -> dict[int, bytes]:
    """Return the attributes that begin at an offset, by type."""
    found = {}
    while at + _ATTRIBUTE.size <= len(body):
        size, kind = _ATTRIBUTE.unpack_from(body, at)
        if size < _ATTRIBUTE.size:
            break
        found[kind & _TYPE] = body[at + _ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3
    return found


def _change(kind: int, body: bytes) -> Iterator[Change]:
    """Read one message: none, or one change."""
    if kind in (_RTM_NEWADDR, _RTM_DELADDR):
        yield from _address(body, present=kind == _RTM_NEWADDR)
    elif kind in (_RTM_NEWLINK, _RTM_DELLINK):
        yield from _link(body, present=kind == _RTM_NEWLINK)


def _link(body: bytes, *, present: bool) -> Iterator[LinkChanged]:
    family, _, index, flags, _ = _LINK.unpack_from(body)
    found = _attributes(body, _LINK.size)
    name = found.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="surrogateescape")
    if not name or family != socket.AF_UNSPEC:
        return  # of a bridge's port, not of the interface
    up = bool(flags & _IFF_UP and flags & _IFF_RUNNING)
    link = Link(index, name, found.get(_IFLA_ADDRESS, b""), up)
    yield LinkChanged(name, link if present else None, index)


def _address(body: bytes, *, present: bool) -> Iterator[AddressChanged]:
    _, prefix, flags, _, index = _ADDRESS.unpack_from(body)
    found = _attributes(body, _ADDRESS.size)
    packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
    if not packed:
        return
    if _IFA_FLAGS in found:
        (flags,) = _WORD.unpack(found[_IFA_FLAGS])
    valid = _CACHEINFO.unpack_from(found[_IFA_CACHEINFO])[1] if _IFA_CACHEINFO in found else _FOREVER
    address = Address(
        index=index,
        address=_text(packed),
        prefix=prefix,
        usable=not flags & (_TENTATIVE | _DADFAILED | _DEPRECATED),
        secondary=bool(flags & _SECONDARY),
        lease=bool(flags & _DEPRECATED) and valid <= LEASE,
    )
    yield AddressChanged(address, present)


@functools.lru_cache(maxsize=4096)
def _text(packed: bytes) -> str:
    """Write an address as Python does; the kernel speaks of the same ones again and again."""
    return str(ip_address(packed))
