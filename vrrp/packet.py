"""VRRP adverts, version 3 (RFC 9568 section 5) and 2 (RFC 3768 section 5): bytes to a frozen dataclass and back.

Version 3:
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |Version| Type  |     VRID      |   Priority    | Address count |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |Reserve|  Interval (1/100 s)   |           Checksum            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |        IPv4 or IPv6 addresses, 4 or 16 octets each            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

Version 2 differs in the second word and in 8 octets of authentication data at the end, both ignored:
    |   Auth type   | Interval (s)  |           Checksum            |

Seconds are floats here, and centiseconds or whole seconds on the wire only.  A packet that does not count is a `Drop`
with the stable name of its reason, not an exception: any bytes at all may arrive.  Version 2 over IPv6 is in no RFC; it
is what keepalived sends: no authentication data, checksum with pseudo-header.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

IPAddress = IPv4Address | IPv6Address
Version = Literal[2, 3]
Checksum = Literal["pseudo", "plain"]
Reason = Literal[
    "ttl",
    "version",
    "type",
    "truncated",
    "length",
    "checksum",
    "vrid",
    "address_count",
    "interval",
    "auth_missing",
    "auth_key",
    "auth_mac",
    "auth_replay",
]

PROTOCOL: Final = 112
"""The IP protocol number (RFC 9568 section 5.1.1.4)."""
TTL: Final = 255
GROUP4: Final = IPv4Address("224.0.0.18")
GROUP6: Final = IPv6Address("ff02::12")
MAX_INTERVAL: Final[dict[Version, float]] = {2: 255.0, 3: 40.95}
"""The longest advert interval that a packet of a version can carry, in seconds."""
MAX_ADDRESSES: Final = 255
"""The count of addresses is one octet."""
TRAILER_TYPE: Final = 1
TRAILER_LENGTH: Final = 28
"""Octets that follow a signed advert (vrrp/auth.py)."""

_ADVERTISEMENT = 1  # the only type there is
_FIXED = struct.Struct("!BBBBHH")
_HEADER4 = struct.Struct("!BxH4xBB2x4s4s")
_AUTH_DATA = 8  # octets at the end of version 2 over IPv4
_SIZE = {4: 4, 6: 16}
_MAX_CENTISECONDS = 0xFFF
_MAX_SECONDS = 0xFF


@dataclass(frozen=True, slots=True)
class Advert:
    """One advertisement; `interval` in seconds, `addresses` in the order of the wire, all of one family."""

    version: Version
    vrid: int
    priority: int
    """0: the sender leaves; 255: the owner of the addresses."""
    addresses: tuple[IPAddress, ...]
    interval: float


@dataclass(frozen=True, slots=True)
class Drop:
    """A packet that has no effect; `reason` is the name of its counter, `detail` is for people."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Datagram:
    """An IPv4 packet as a raw socket delivers it, taken apart."""

    source: IPv4Address
    destination: IPv4Address
    ttl: int
    payload: bytes


def parse_ipv4(data: bytes) -> Datagram | Drop:
    """Take the IPv4 header off what a raw socket received (an IPv6 raw socket delivers no header)."""
    if len(data) < _HEADER4.size:
        return Drop("truncated", f"{len(data)} octets are not an IPv4 packet")
    first, total, ttl, _, source, destination = _HEADER4.unpack_from(data)
    header = (first & 15) * 4
    if first >> 4 != 4 or not _HEADER4.size <= header <= total <= len(data):  # noqa: PLR2004
        return Drop("truncated", "the lengths in the IPv4 header are wrong")
    return Datagram(IPv4Address(source), IPv4Address(destination), ttl, data[header:total])


def parse(  # noqa: PLR0911 - each reason is a return
    data: bytes,
    source: IPAddress,
    destination: IPAddress,
    ttl: int,
    *,
    version: Version | None = None,
    multicast: bool = True,
) -> Advert | Drop:
    """Turn the payload of an IP packet of protocol 112 into an advert, or say why it does not count (V1).

    `ttl` is the IPv4 TTL or the IPv6 hop limit; it must be 255 where `multicast` (RFC 9568 section 7.1).  `version` is
    the one that the router speaks, None for either.  The family is that of `source`.  A trailer (vrrp/auth.py) is
    permitted and ignored: hand the data to a `Verifier` afterwards where adverts must be signed.
    """
    if multicast and ttl != TTL:
        return Drop("ttl", f"TTL {ttl} is not 255: a router has forwarded the packet")
    if len(data) < _FIXED.size:
        return Drop("truncated", f"{len(data)} octets")
    first, vrid, priority, count, word, _ = _FIXED.unpack_from(data)
    speaks = _version(first >> 4)
    if speaks is None or version not in {None, speaks}:
        return Drop("version", f"version {first >> 4}")
    length = _wrong_field(first, vrid, count) or _message_length(data, speaks, source.version, count)
    if isinstance(length, Drop):
        return length
    if not _sum_is_right(data, length, speaks, source, destination):
        return Drop("checksum")
    # Version 3 has 4 reserved bits before the interval, version 2 an authentication type: both ignored.
    interval = (word & _MAX_CENTISECONDS) / 100 if speaks == 3 else float(word & _MAX_SECONDS)  # noqa: PLR2004
    if not interval:
        return Drop("interval", "interval 0")
    return Advert(speaks, vrid, priority, _addresses(data, source.version, count), interval)


def trailer_of(data: bytes, family: int) -> bytes:
    """Return the trailer of data that `parse` has accepted, b"" if there is none."""
    first, _, _, count, _, _ = _FIXED.unpack_from(data)
    version = _version(first >> 4)
    length = _message_length(data, version, family, count) if version else None
    return data[length:] if isinstance(length, int) else b""


def build(
    advert: Advert,
    source: IPAddress,
    destination: IPAddress,
    *,
    checksum: Checksum = "pseudo",
    trailer: bytes = b"",
) -> bytes:
    """Turn an advert and its trailer (vrrp/auth.py) into the payload of an IP packet from `source` to `destination`.

    `checksum` matters to version 3 over IPv4 only: IPv6 always has the pseudo-header, version 2 over IPv4 never.
    Raises ValueError for what does not fit the wire: it was ours, or the configuration's.
    """
    if not (0 < advert.vrid <= 0xFF and 0 <= advert.priority <= 0xFF and 0 < len(advert.addresses) <= 0xFF):  # noqa: PLR2004
        raise ValueError(f"VRID, priority or number of addresses out of range: {advert}")
    if any(address.version != source.version for address in advert.addresses):
        raise ValueError(f"an advert from {source} carries addresses of its own family only: {advert}")
    units, most = (100, _MAX_CENTISECONDS) if advert.version == 3 else (1, _MAX_SECONDS)  # noqa: PLR2004
    interval = round(advert.interval * units)
    if not 0 < interval <= most or abs(interval - advert.interval * units) > 1e-6:  # noqa: PLR2004
        raise ValueError(f"version {advert.version} cannot carry an interval of {advert.interval} s")
    body = b"".join(address.packed for address in advert.addresses)
    if advert.version == 2 and source.version == 4:  # noqa: PLR2004
        body += bytes(_AUTH_DATA)
    first = advert.version << 4 | _ADVERTISEMENT
    fields = first, advert.vrid, advert.priority, len(advert.addresses), interval
    message = _FIXED.pack(*fields, 0) + body
    if source.version == 6:  # noqa: PLR2004
        message += trailer  # keepalived lets the kernel compute the checksum over IPv6, which takes all there is
    pseudo = source.version == 6 or (advert.version == 3 and checksum == "pseudo")  # noqa: PLR2004
    header = pseudo_header(source, destination, len(message), PROTOCOL) if pseudo else b""
    return _FIXED.pack(*fields, internet_checksum(header + message)) + body + trailer


def internet_checksum(data: bytes) -> int:
    """Return the Internet checksum of an even number of octets (RFC 1071); 0 for data that contain their right one.

    One's complement addition of 16-bit words is addition modulo 65535, so one big number will do.
    """
    return -int.from_bytes(data, "big") % 0xFFFF


def pseudo_header(source: IPAddress, destination: IPAddress, length: int, protocol: int) -> bytes:
    """Return what a checksum covers besides the message (RFC 9568 section 5.2.8; RFC 8200 section 8.1 for IPv6)."""
    layout = "!BBH" if source.version == 4 else "!IxxxB"  # noqa: PLR2004
    numbers = (0, protocol, length) if source.version == 4 else (length, protocol)  # noqa: PLR2004
    return source.packed + destination.packed + struct.pack(layout, *numbers)


def _version(number: int) -> Version | None:
    if number == 3:  # noqa: PLR2004
        return 3
    return 2 if number == 2 else None  # noqa: PLR2004


def _wrong_field(first: int, vrid: int, count: int) -> Drop | None:
    if first & 15 != _ADVERTISEMENT:
        return Drop("type", f"type {first & 15}")
    if vrid == 0:
        return Drop("vrid", "VRID 0")
    return Drop("address_count", "no address") if count == 0 else None


def _message_length(data: bytes, version: Version, family: int, count: int) -> int | Drop:
    """Return how many octets the advert has without a trailer, or why the packet's length is wrong."""
    end = _FIXED.size + count * _SIZE[family]
    auth = _AUTH_DATA if version == 2 else 0  # noqa: PLR2004
    # keepalived sends no authentication data over IPv6.
    ends = (end,) if not auth else (end + auth,) if family == 4 else (end, end + auth)  # noqa: PLR2004
    if len(data) < ends[0]:
        return Drop("truncated", f"{len(data)} octets for {count} addresses")
    for length in ends:
        rest = len(data) - length
        if rest == 0 or (
            rest == TRAILER_LENGTH and data[length] == TRAILER_TYPE and data[length + 2 : length + 4] == b"\0\0"
        ):
            return length
    return Drop("length", f"{len(data)} octets for {count} addresses")


def _sum_is_right(data: bytes, length: int, version: Version, source: IPAddress, destination: IPAddress) -> bool:
    # Over IPv6 the sum is the kernel's business at keepalived's, and takes in the trailer.
    message = data if source.version == 6 else data[:length]  # noqa: PLR2004
    plain = source.version == 4 and internet_checksum(message) == 0  # noqa: PLR2004
    if plain or (version == 2 and source.version == 4):  # noqa: PLR2004
        return plain
    return internet_checksum(pseudo_header(source, destination, len(message), PROTOCOL) + message) == 0


def _addresses(data: bytes, family: int, count: int) -> tuple[IPAddress, ...]:
    size = _SIZE[family]
    make = IPv4Address if family == 4 else IPv6Address  # noqa: PLR2004
    starts = range(_FIXED.size, _FIXED.size + count * size, size)
    return tuple(make(data[start : start + size]) for start in starts)
