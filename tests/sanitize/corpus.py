"""Valid datagrams, of which a fuzzer makes others."""

import struct

from proxy.relay.proxy_header.header import build
from tests.proxy.relay.dnsbed import EDNS, name_of, query

NAMES = ("", "example", "www.example.net", "a" * 63 + ".example", ".".join(["b" * 60] * 4), "xn--bcher-kva.example")


def queries() -> list[bytes]:
    """Return DNS messages: of many types, with EDNS, an UPDATE, a NOTIFY, long names, two questions, compression."""
    subnet = struct.pack(">HHHBB", 8, 7, 1, 24, 0) + bytes([192, 0, 2])
    with_subnet = bytes.fromhex("00 0029 04d0 0000 8000") + struct.pack(">H", len(subnet)) + subnet
    found = [query(name, kind=kind) for name in NAMES for kind in (1, 28, 6, 252, 255)]
    found += [_more(query(name), EDNS) for name in NAMES]
    found += [_more(query(name), with_subnet) for name in NAMES]
    found += [query(opcode=opcode) for opcode in (2, 4, 5, 15)]
    found += [query(tail=bytes(size)) for size in (1, 500, 1200)]
    found.append(query(opcode=5, tail=bytes(1500)))
    two = query() + b"\xc0\x0c\0\x01\0\x01"
    found.append(two[:4] + b"\0\x02" + two[6:])
    found.append(query()[:12] + b"\xc0\x0c\0\x01\0\x01")
    found.append(query()[:12] + name_of("example.net")[:-1] + b"\xc0\x0c\0\x01\0\x01")
    return found


def datagrams() -> list[bytes]:
    """Return datagrams of any protocol: empty, small and large ones."""
    return [b"", b"x", b"hello", bytes(range(256)), b"y" * 1200, b"z" * 1472, b"w" * 9000]


def introduced(found: list[bytes]) -> list[bytes]:
    """Return each datagram behind a PROXY header, of IPv4 or IPv6, of one of many clients, or of the source's own."""
    behind = []
    for number, one in enumerate(found):
        four = (f"10.1.{number % 7}.{number % 200 + 1}", 1024 + number), ("192.0.2.1", 53)
        six = (f"2001:db8::{number % 9 + 1:x}", 2000 + number), ("2001:db8::53", 53)
        local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
        behind += [build("v2", *four, datagram=True) + one, build("v2", *six, datagram=True) + one, local + one]
    return behind


def _more(message: bytes, record: bytes) -> bytes:
    """Return a message with one more additional record."""
    return message[:10] + struct.pack(">H", int.from_bytes(message[10:12], "big") + 1) + message[12:] + record
