r"""The PROXY protocol, versions 1 and 2: it passes the client's address from one balancer or server to the next [pure].

    version 1:  "PROXY TCP4 192.0.2.1 198.51.100.10 51234 25\r\n", at most 107 octets
    version 2:   0                                             12        13         14           16
                 +----------------------------------------------+---------+----------+------------+-----------------
                 | \r \n \r \n \0 \r \n Q U I T \n          | ver|cmd | fam|prot | length (2) | addresses, TLVs
                 +----------------------------------------------+---------+----------+------------+-----------------

haproxy.org/download/3.0/doc/proxy-protocol.txt, sections 2.1 and 2.2.  Over UDP each datagram begins with a header of
version 2, as dnsdist sends it to name servers (dnsdist.org, "Proxy Protocol"); answers have none.  Parsing is strict: a
source of headers speaks for other clients, so an inexact header is refused.  A valid address family that is not relayed
here names no client.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
LONGEST: Final = 4096
"""The most octets of a header; a longer one is refused (the addresses take 36, the rest are TLVs)."""

_V1: Final = b"PROXY "
_V1_LONGEST: Final = 107
_HEAD: Final = struct.Struct("!12sBBH")
_VERSION: Final = 0x20
_LOCAL, _PROXY = 0x0, 0x1
_INET, _INET6, _FAMILIES = 0x10, 0x20, 0x30  # the last is AF_UNIX; higher values are unassigned
_STREAM, _DGRAM, _PROTOCOLS = 0x1, 0x2, 0x2  # the last is the highest assigned value
_PORT_MAX: Final = 65535

Endpoint = tuple[str, int]
Address = IPv4Address | IPv6Address


class HeaderError(ValueError):
    """The peer sent no valid PROXY header; the text says why."""


@dataclass(frozen=True, slots=True)
class Header:
    """A header: the client, and the address that it connected to.

    Both are None if the peer speaks for itself (LOCAL, UNKNOWN) or the address family is not relayed here (UNSPEC,
    AF_UNIX): then the connection's own addresses apply.
    """

    client: Endpoint | None
    asked: Endpoint | None
    size: int
    """Octets of the header; the octets behind it are the client's."""


def build(version: str, client: Endpoint, asked: Endpoint, *, datagram: bool = False) -> bytes:
    """Return the "v1" or "v2" header for a TCP connection or a `datagram` from `client` to the address `asked`.

    Scopes of link-local addresses are left out.  If the families differ, both addresses are written as IPv6 (mapped,
    RFC 4291 section 2.5.5.2), because a header has only one family.
    """
    one, other = _host(client[0]), _host(asked[0])
    if one.version != other.version:
        one, other = _six(one), _six(other)
    if version == "v1":
        return f"PROXY TCP{one.version} {one} {other} {client[1]} {asked[1]}\r\n".encode()
    body = one.packed + other.packed + struct.pack("!HH", client[1], asked[1])
    kind = (_INET if one.version == 4 else _INET6) | (_DGRAM if datagram else _STREAM)  # noqa: PLR2004
    return _HEAD.pack(SIGNATURE, _VERSION | _PROXY, kind, len(body)) + body


def parse(data: bytes) -> Header | None:
    """Return the header at the start of `data`; None if it is incomplete; raise HeaderError if it is none."""
    if data.startswith(SIGNATURE):
        return _parse_v2(data, _STREAM)
    if data.startswith(_V1):
        return _parse_v1(data)
    if SIGNATURE.startswith(data) or _V1.startswith(data):
        return None
    raise HeaderError("it does not begin as a PROXY header does")


def parse_datagram(data: bytes) -> Header:
    """Return the version 2 header at the start of a datagram; raise HeaderError if it is missing or incomplete."""
    if not data.startswith(SIGNATURE):
        raise HeaderError("it does not begin as a PROXY header of version 2 does")
    header = _parse_v2(data, _DGRAM)
    if header is None:
        raise HeaderError("the datagram ends within the header")
    return header


def _parse_v1(data: bytes) -> Header | None:
    line, end, _ = data[:_V1_LONGEST].partition(b"\r\n")
    if not end:
        if len(data) >= _V1_LONGEST:
            raise HeaderError("the line does not end")
        return None
    size = len(line) + len(end)
    try:
        words = line.decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise HeaderError("the line is not ASCII") from None
    if words[1] == "UNKNOWN":
        return Header(None, None, size)
    if len(words) != 6 or words[1] not in {"TCP4", "TCP6"}:  # noqa: PLR2004 - PROXY, family, two addresses, two ports
        raise HeaderError("the line has other words than a family, two addresses and two ports")
    version = int(words[1][-1])
    return Header((_address(words[2], version), _port(words[4])), (_address(words[3], version), _port(words[5])), size)


def _address(text: str, version: int) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        raise HeaderError(f"{text[:45]!r} is no address") from None
    if address.version != version or "%" in text:
        raise HeaderError(f"{text[:45]!r} is no IPv{version} address")
    return _plain(address)


def _plain(address: Address) -> str:
    """Return an address as text; a mapped IPv4 address becomes plain IPv4, as in sockets' addresses."""
    return str(getattr(address, "ipv4_mapped", None) or address)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or (text[0] == "0" and text != "0") or int(text[:6]) > _PORT_MAX:
        raise HeaderError(f"{text[:6]!r} is no port")
    return int(text)


def _parse_v2(data: bytes, transport: int) -> Header | None:
    if len(data) < _HEAD.size:
        return None
    _, kind, family, length = _HEAD.unpack_from(data)
    size = _HEAD.size + length
    if kind & 0xF0 != _VERSION or kind & 0x0F not in (_LOCAL, _PROXY):
        raise HeaderError(f"version and command {kind:#04x} are unknown")
    if size > LONGEST:
        raise HeaderError(f"{size} octets are too many")
    if len(data) < size:
        return None
    if kind & 0x0F == _LOCAL:
        return Header(None, None, size)
    if family & 0xF0 > _FAMILIES or family & 0x0F > _PROTOCOLS:
        raise HeaderError(f"family and protocol {family:#04x} are unknown")
    octets = {_INET | transport: 4, _INET6 | transport: 16}.get(family)
    if octets is None:
        return Header(None, None, size)  # valid but not relayed here: section 2.2 says to treat it like UNSPEC
    if length < 2 * octets + 4:
        raise HeaderError(f"{length} octets are too few for two addresses and ports")
    at = _HEAD.size
    client, asked = (_plain(ip_address(data[at + n * octets : at + (n + 1) * octets])) for n in range(2))
    ports = struct.unpack_from("!HH", data, at + 2 * octets)
    return Header((client, ports[0]), (asked, ports[1]), size)


@lru_cache(8192)
def _host(text: str) -> Address:
    """Return an address without its zone; cached, because clients send many datagrams."""
    return ip_address(text.partition("%")[0])


def _six(address: Address) -> IPv6Address:
    return address if isinstance(address, IPv6Address) else IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)
