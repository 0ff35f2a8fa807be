"""ICMP echoes: pure messages, and raw sockets where this test may open them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health.icmp import Echo, Heard, checksum, read, request, without_ipv4_header

ECHO = Echo(0x1234, 7, b"0123456789abcdef")
IPV4 = bytes.fromhex("4500003000000000400100000a0000010a000002")


def test_request() -> None:
    """A request of version 4 has type 8 and sums up to zero; of version 6 type 128 and no sum, which the kernel makes."""
    data = request(4, ECHO)
    assert data[0] == 8
    assert checksum(data) == 0
    assert data[4:] == bytes.fromhex("12340007") + ECHO.payload
    assert request(6, ECHO)[:4] == bytes.fromhex("80000000")


@pytest.mark.parametrize(("version", "kind"), [(4, 0), (6, 129)])
def test_reply(version: int, kind: int) -> None:
    """A reply is read with what it repeats, and a request of somebody else is not taken for one."""
    data = request(version, ECHO)
    assert read(version, bytes([kind, 0]) + data[2:]) == Heard(ECHO)
    assert read(version, data) is None


def test_errors_in_words() -> None:
    """H3: an ICMP error tells whose request it is about, and what happened."""
    inner = request(4, ECHO)[:8]
    assert read(4, bytes([3, 1]) + bytes(6) + IPV4 + inner) == Heard(Echo(0x1234, 7), "no route to host")
    assert read(4, bytes([3, 13]) + bytes(6) + IPV4 + inner) == Heard(Echo(0x1234, 7), "forbidden by a firewall")
    assert read(4, bytes([11, 0]) + bytes(6) + IPV4 + inner) == Heard(Echo(0x1234, 7), "time to live exceeded")
    inner6 = bytes(40) + request(6, ECHO)[:8]
    assert read(6, bytes([1, 0]) + bytes(6) + inner6) == Heard(Echo(0x1234, 7), "network unreachable")
    assert read(4, bytes([3, 3]) + bytes(6) + IPV4 + b"\x11" + inner[1:]) is None


@given(st.sampled_from([4, 6]), st.binary(max_size=120))
def test_any_octets_are_harmless(version: int, data: bytes) -> None:
    """S9: whatever comes is read or ignored; nothing is raised."""
    read(version, data)
    without_ipv4_header(data)
