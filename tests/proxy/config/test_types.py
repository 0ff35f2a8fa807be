"""The small grammars of the file."""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from health.units import FROM_FILE
from proxy.config.types import (
    Bind,
    InterfaceName,
    LogTarget,
    Rate,
    Share,
    is_name,
    join_endpoint,
    parse_cidr,
    parse_endpoint,
    parse_interface_address,
    parse_listen,
    parse_ports,
)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("53", (53,)),
        ("143,993", (143, 993)),
        ("1812-1813", (1812, 1813)),
        ("25, 80-81", (25, 80, 81)),
        ("65535", (65535,)),
    ],
)
def test_port_lists_and_ranges(text, ports):
    """A port list is numbers and ranges, in the order written."""
    assert parse_ports(text) == ports


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a port number"),
        ("0", "out of range"),
        ("65536", "out of range"),
        ("smtp", '"smtp" is not a port number'),
        ("80-70", "runs backwards"),
        ("1-65535", "more than 4096"),
        ("53,53", "twice"),
        ("-5", "not a port number"),
        ("٥٣", "not a port number"),
    ],
)
def test_wrong_ports_are_told(text, words):
    """What is no port list is refused in words."""
    with pytest.raises(ValueError, match=words):
        parse_ports(text)


@pytest.mark.parametrize(
    ("text", "where", "ports", "transport", "is_router"),
    [
        ("10.0.0.10:53/udp", "10.0.0.10", (53,), "udp", False),
        ("[2001:DB8::10]:53/tcp", "2001:db8::10", (53,), "tcp", False),
        ("[fe80::1%eth0]:53/tcp", "fe80::1%eth0", (53,), "tcp", False),
        ("*:143,993/tcp", "*", (143, 993), "tcp", False),
        ("inside:1812-1813/udp", "inside", (1812, 1813), "udp", True),
        ("v6.outside:25/tcp", "v6.outside", (25,), "tcp", True),
    ],
)
def test_listen_entries(text, where, ports, transport, is_router):
    """A listen entry is WHERE:PORTS/TRANSPORT, WHERE an address, a star or a router's name."""
    parsed = parse_listen(text)
    assert (parsed.where, parsed.ports, parsed.transport, parsed.is_name) == (where, ports, transport, is_router)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.10:53", 'has no transport: write "10.0.0.10:53/udp" or "10.0.0.10:53/tcp"'),
        ("10.0.0.10:53/upd", '"upd" is not a transport'),
        ("10.0.0.10/tcp", 'has no port: write "10.0.0.10:53/tcp"'),
        (":53/udp", 'for every address of the host write "\\*:53/udp"'),
        ("2001:db8::1:53/udp", 'needs brackets around the IPv6 address: write "\\[2001:db8::1\\]:53/udp"'),
        ("10.0.0.10 80/tcp", '"10.0.0.10 80/tcp" has no port: write "10.0.0.10:80/tcp"'),
        ("80/tcp", 'has no address: for every address of the host write "\\*:80/tcp"'),
        ("a:b:c/tcp", '"a:b:c" is not an address and a port: write "10.0.0.10:53/tcp"'),
        ("http://10.0.0.1:80/x", 'is a URL: write "10.0.0.1:80/tcp"'),
        ("[2001:db8::1]/udp", "has no port"),
        ("[10.0.0.1]:53/udp", "brackets are for IPv6"),
        ("[::ffff:10.0.0.1]:53/udp", 'is an IPv4 address: write "10.0.0.1:53/udp"'),
        ("[fe80::1]:53/udp", 'needs its interface: write "fe80::1%eth0"'),
        ("10.0.0.256:53/udp", "not an IPv4 address"),
        ("in side:53/udp", "neither an IP address"),
        ("224.0.0.1:53/udp", "a multicast address: no single host has it"),
        ("[ff02::1]:53/udp", "a multicast address: no single host has it"),
        ("255.255.255.255:53/udp", "the broadcast address: no single host has it"),
        ("0.0.0.1:53/udp", "the address of no host"),
        ("[2001:db8::1%eth0]:53/udp", "not link-local: write it without the interface"),
        ("[fe80::1%eth0:1]:53/udp", "not the name of a network interface"),
    ],
)
def test_wrong_listen_entries_show_the_right_form(text, words):
    """An error about a listen entry says what to write instead."""
    with pytest.raises(ValueError, match=words):
        parse_listen(text)


PIECES = [
    "10.0.0.10",
    "2001:db8::1",
    "[",
    "]",
    "fe80::1%eth0",
    "*",
    "inside",
    "53",
    "80,443",
    "1-9",
    "x",
    " ",
    ":",
    "/",
    "/tcp",
    "/udp",
]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.characters()), max_size=6).map("".join))
def test_what_is_suggested_for_listen_is_understood(text):
    """Whatever is written as a listen entry, each suggestion of the error is a listen entry itself."""
    try:
        parse_listen(text)
    except ValueError as error:
        for one in re.findall(r'write "([^"]*)"|or "([^"]*/(?:udp|tcp))"', str(error).replace(f'"{text[:60]}"', "", 1)):
            if "/" in "".join(one):
                parse_listen("".join(one))


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("10.0.0.1", "10.0.0.1", None),
        ("10.0.0.1:53", "10.0.0.1", 53),
        ("2001:db8::1", "2001:db8::1", None),
        ("[2001:db8::1]", "2001:db8::1", None),
        ("[2001:db8::1]:53", "2001:db8::1", 53),
    ],
)
def test_backends_with_and_without_port(text, address, port):
    """A backend is an address, with a port behind a colon, IPv6 in brackets then."""
    assert parse_endpoint(text) == (address, port)


@pytest.mark.parametrize(
    "text", ["10.0.0.1:", "10.0.0.1:http", "[10.0.0.1]:53", "[2001:db8::1]53", "[2001:db8::1", "db1:3306", ""]
)
def test_wrong_backends(text):
    """What is no address with an optional port is refused."""
    with pytest.raises(ValueError, match=" "):
        parse_endpoint(text)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_endpoints_come_back(address, port):
    """An address and port that were joined are taken apart into the same; a mapped IPv4 address into what it is."""
    plain = str(getattr(address, "ipv4_mapped", None) or address)
    assert parse_endpoint(join_endpoint(str(address), port)) == (plain, port)


def test_blocks_of_addresses():
    """A block keeps no bits behind its prefix; the error shows the block that was probably meant."""
    assert parse_cidr("10.0.0.0/16") == "10.0.0.0/16"
    assert parse_cidr("10.0.0.1") == "10.0.0.1/32"
    with pytest.raises(ValueError, match=r'bits set behind its prefix: write "10\.0\.0\.0/16"'):
        parse_cidr("10.0.0.5/16")
    with pytest.raises(ValueError, match="not a block"):
        parse_cidr("example.net")


def test_virtual_addresses_without_prefix_stand_alone():
    """A virtual address without a prefix is /32 or /128."""
    assert parse_interface_address("10.0.0.10") == "10.0.0.10/32"
    assert parse_interface_address("2001:db8::10") == "2001:db8::10/128"
    assert parse_interface_address("10.0.0.10/24") == "10.0.0.10/24"
    with pytest.raises(ValueError, match="not an address"):
        parse_interface_address("10.0.0.10/33")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Rate, "100/s", 100.0),
        (Rate, "60/m", 1.0),
        (Share, "10%", 0.1),
        (Bind, "[::1]:9600", "[::1]:9600"),
        (Bind, "0.0.0.0:9600", "0.0.0.0:9600"),
        (LogTarget, "udp://192.0.2.1:514", "udp://192.0.2.1:514"),
        (LogTarget, "/var/log/steelyard", "/var/log/steelyard"),
        (InterfaceName, "eth0.100", "eth0.100"),
    ],
)
def test_values_with_a_form_of_their_own(kind, text, value):
    """Rates, shares, sockets, log targets and interfaces are read."""
    assert TypeAdapter(kind).validate_python(text, context=FROM_FILE) == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Rate, "100"), (Rate, "0/s"), (Rate, 100), (Rate, "x/s"), (Share, "101%"), (Share, 0.1), (Share, "ten"), (Bind, "127.0.0.1"),
        (Bind, 9600), (LogTarget, "syslog"), (LogTarget, "udp://192.0.2.1"), (LogTarget, "/var/log/"), (LogTarget, "/var/../x"), (LogTarget, "/var//x"),
        (LogTarget, "/x\ty"), (LogTarget, "udp://0.0.0.0:514"), (LogTarget, "udp://[ff02::1]:514"), (InterfaceName, "a" * 16), (InterfaceName, "a b"),
        (InterfaceName, "é" * 8), (InterfaceName, "."), (InterfaceName, "a:b"), (InterfaceName, "a\0b"), (Bind, "224.0.0.1:9600"), (LogTarget, "udp://255.255.255.255:514"),
        (LogTarget, "udp://[fe80::1]:514"),
    ],
)  # fmt: skip
def test_values_of_the_wrong_form(kind, value):
    """A value of another form is refused, a bare number where a unit belongs too."""
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(value, context=FROM_FILE)


def test_names():
    """A name is letters, digits, dots, hyphens and underscores, at most 63, so that `service/backend` is unambiguous."""
    assert is_name("mysql-read.v2")
    assert not any(is_name(text) for text in ("", "a/b", "-a", "a b", "a" * 64, "a\n", "é", "*"))


@given(st.text())
def test_any_text_is_read_or_refused(text):
    """Each grammar takes any text and returns a value or raises ValueError, nothing else."""
    for parse in (parse_ports, parse_listen, parse_endpoint, parse_cidr, parse_interface_address):
        with suppress(ValueError):
            assert parse(text)
