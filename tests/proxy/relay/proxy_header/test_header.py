"""proxy.relay.proxy_header.header: PROXY headers, and data that is not one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.proxy_header.header import LONGEST, SIGNATURE, Header, HeaderError, build, parse, parse_datagram

ENDPOINTS = st.tuples(
    st.ip_addresses().filter(lambda one: getattr(one, "ipv4_mapped", None) is None).map(str), st.integers(0, 65535)
)


@pytest.mark.parametrize(
    ("version", "header"),
    [
        ("v1", b"PROXY TCP4 192.0.2.1 198.51.100.10 51234 25\r\n"),
        ("v2", SIGNATURE + bytes.fromhex("2111000c c0000201 c633640a c822 0019")),
    ],
)
def test_as_the_specification_has_it(version, header):
    """T22: a header matches the specification octet for octet (sections 2.1 and 2.2)."""
    assert build(version, ("192.0.2.1", 51234), ("198.51.100.10", 25)) == header


@given(ENDPOINTS, ENDPOINTS, st.sampled_from(["v1", "v2"]), st.binary(max_size=40))
def test_what_is_built_is_understood(client, asked, version, more):
    """T22: parsing a built header returns its values and its size, whatever follows it."""
    header = build(version, client, asked)
    found = parse(header + more)
    assert found is not None
    assert found.size == len(header)
    assert build(version, found.client, found.asked) == header
    if (":" in client[0]) == (":" in asked[0]):
        assert (found.client, found.asked) == (client, asked)


@pytest.mark.parametrize("asked", ["::ffff:198.51.100.10", "2001:db8::10"])
@pytest.mark.parametrize("version", ["v1", "v2", "datagram"])
def test_an_ipv4_client_is_one_however_it_is_told(version, asked):
    """T22: an IPv4 address that is told as IPv6 (mapped) is the IPv4 address: what allows, denies and counts knows it so."""
    told = ("::ffff:192.0.2.1", 51234), (asked, 25)
    datagram = version == "datagram"
    header = build("v2" if datagram else version, *told, datagram=datagram)
    found = parse_datagram(header) if datagram else parse(header)
    assert found == Header(("192.0.2.1", 51234), (asked.removeprefix("::ffff:"), 25), len(header))


@given(ENDPOINTS, ENDPOINTS, st.sampled_from(["v1", "v2"]))
def test_a_part_of_one_waits(client, asked, version):
    """T22: each beginning of a header may become one, and is neither accepted nor refused."""
    header = build(version, client, asked)
    assert all(parse(header[:size]) is None for size in range(len(header)))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.0\r\n", b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n", b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 -2\r\n", b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 \xb2\r\n", b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 2001:db8::2 1 2\r\n", b"PROXY " + b"x" * 101,
        SIGNATURE + bytes.fromhex("1111000c"), SIGNATURE + bytes.fromhex("2211000c"),
        SIGNATURE + bytes.fromhex("21110004") + bytes(4), SIGNATURE + bytes.fromhex("21410000"),
        SIGNATURE + bytes.fromhex("2113000c") + bytes(12), SIGNATURE + bytes.fromhex("21f1000c") + bytes(12),
        SIGNATURE + bytes.fromhex("2111ffff"), SIGNATURE[:-1] + b"!",
    ],
)  # fmt: skip
def test_what_is_none(data):
    """T22: whatever is not exactly a header of a TCP connection is refused."""
    with pytest.raises(HeaderError):
        parse(data)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"PROXY UNKNOWN\r\nrest", 15),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", 35),
        (SIGNATURE + bytes.fromhex("20000000") + b"rest", 16),
        (SIGNATURE + bytes.fromhex("2011000c") + bytes(12), 28),
        (SIGNATURE + bytes.fromhex("2100000c") + bytes(12), 28),
        (SIGNATURE + bytes.fromhex("20ff0003") + b"tlv" + b"rest", 19),
        (SIGNATURE + bytes.fromhex("21000000") + b"rest", 16),
        (SIGNATURE + bytes.fromhex("213100d8") + b"/run/app.sock".ljust(216, b"\0") + b"rest", 232),
        (SIGNATURE + bytes.fromhex("21320000") + b"rest", 16),
        (SIGNATURE + bytes.fromhex("2110000c") + bytes(12) + b"rest", 28),
        (SIGNATURE + bytes.fromhex("21200003") + b"\x04\0\0" + b"rest", 19),
        (SIGNATURE + bytes.fromhex("21010000") + b"rest", 16),
    ],
)
def test_who_speaks_for_himself(data, size):
    """T22: a health check of the peer, a client that it does not know, and a family that is not relayed are the peer itself."""
    assert parse(data) == Header(None, None, size)
    if not data.startswith(b"PROXY "):
        assert parse_datagram(data) == Header(None, None, size)


def test_extensions_are_skipped():
    """T22: what version 2 has beyond the addresses (TLVs) belongs to the header, not to the client."""
    data = SIGNATURE + bytes.fromhex("2111000f c0000201 c633640a c822 0019") + b"\x04\x00\x00" + b"EHLO"
    assert parse(data).size == len(data) - 4


@given(st.binary(max_size=LONGEST + 100), st.sampled_from([b"", b"PROXY ", SIGNATURE]))
def test_any_octets_are_harmless(data, start):
    """T22: whatever octets come, the answer is a header within them, that more is needed, or a refusal."""
    try:
        found = parse(start + data)
    except HeaderError:
        return
    assert found is None or found.size <= len(start + data)
    assert found is not None or len(start + data) < LONGEST


def test_the_header_of_a_datagram():
    """T22: a datagram's header says that it is UDP (section 2.2: 0x12); TCP's tells it nothing of the client, nor the reverse."""
    header = build("v2", ("192.0.2.1", 51234), ("198.51.100.10", 53), datagram=True)
    assert header == SIGNATURE + bytes.fromhex("2112000c c0000201 c633640a c822 0035")
    assert parse_datagram(header + b"query") == Header(("192.0.2.1", 51234), ("198.51.100.10", 53), len(header))
    assert parse(header) == Header(None, None, len(header))
    assert parse_datagram(build("v2", ("192.0.2.1", 51234), ("198.51.100.10", 53))) == Header(None, None, len(header))
    with pytest.raises(HeaderError):
        parse_datagram(build("v1", ("192.0.2.1", 51234), ("198.51.100.10", 53)))


@given(ENDPOINTS, ENDPOINTS, st.binary(max_size=40))
def test_a_datagrams_header_is_there_whole_or_not_at_all(client, asked, more):
    """T22: what we put before a datagram says to us the same, whatever follows; no beginning of it is a header."""
    header = build("v2", client, asked, datagram=True)
    found = parse_datagram(header + more)
    assert found.size == len(header)
    assert build("v2", found.client, found.asked, datagram=True) == header
    for size in range(len(header)):
        with pytest.raises(HeaderError):
            parse_datagram(header[:size])


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=100).map(lambda data: SIGNATURE + data)))
def test_any_datagram_is_a_header_or_an_error(data):
    """T22, U13: any octets are a header that lies within them, or HeaderError; nothing else comes of them."""
    try:
        header = parse_datagram(data)
    except HeaderError:
        return
    assert 16 <= header.size <= min(len(data), LONGEST)
