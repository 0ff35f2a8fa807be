"""rtnetlink messages: what goes to the kernel, and what is read of its answers."""

import contextlib
import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrrp import netlink
from vrrp.netlink import Address, AddressChanged, IncompleteDumpError, Link, LinkChanged

HEADER = struct.Struct("=IHHII")


def message(kind, body, flags=0, sequence=0):
    """One message as the kernel sends it."""
    data = HEADER.pack(16 + len(body), kind, flags, sequence, 0) + body
    return data + bytes(-len(data) % 4)


def attribute(kind, value):
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def address_message(kind=20, *, flags=0, valid=0xFFFFFFFF):
    body = struct.pack("=BBBBi", 10, 128, flags & 0xFF, 0, 2) + attribute(1, ip_address("2001:db8::1").packed)
    body += attribute(6, struct.pack("=IIII", 0, valid, 0, 0)) + attribute(8, struct.pack("=I", flags))
    return message(kind, body)


def link_message(kind=16, *, family=0, flags=0x41, name=b"eth0\0"):
    body = struct.pack("=BxHiII", family, 1, 2, flags, 0) + attribute(3, name) + attribute(1, b"\2\0\0\0\0\1")
    return message(kind, body)


def test_orders_are_numbered_and_the_last_is_answered():
    """Orders go in one piece, numbered one after the other, and only the last asks for an answer."""
    one = netlink.install(2, ip_address("192.0.2.10"), 32)
    data = netlink.pack([one, one, netlink.removal(2, ip_address("2001:db8::1"), 128)], 7)
    found = []
    while data:
        size, kind, flags, sequence, _ = HEADER.unpack_from(data)
        found.append((kind, bool(flags & 4), sequence))
        data = data[size:]
    assert found == [(20, False, 7), (20, False, 8), (21, True, 9)]


def test_an_installed_address_is_a_lease():
    """V14, V25: an address is installed with a lifetime of 2 s, preferred for none, and an IPv6 one without a search for duplicates."""
    four = netlink.install(2, ip_address("192.0.2.10"), 32)
    assert four.body.startswith(struct.pack("=BBBBi", 2, 32, 0, 0, 2))
    assert attribute(6, struct.pack("=IIII", 0, 2, 0, 0)) in four.body
    six = netlink.install(2, ip_address("2001:db8::1"), 128)
    assert six.body.endswith(attribute(8, struct.pack("=I", 2)))


def test_refusals_say_which_order():
    """Each refused order is named by its number with the kernel's error; 0 is the answer to one that was carried out."""
    data = message(2, struct.pack("=i", -13) + bytes(16), sequence=8) + message(2, bytes(20), sequence=9)
    assert list(netlink.refusals(data)) == [(8, 13), (9, 0)]


def test_addresses_are_read():
    """V14: an address with our lifetimes is a lease, one that lives longer is not; a lost one is told as gone."""
    lease = Address(2, "2001:db8::1", 128, usable=False, secondary=False, lease=True)
    assert netlink.changes_in(address_message(flags=0x20, valid=2)) == [AddressChanged(lease, present=True)]
    assert netlink.changes_in(address_message(21, flags=0x20, valid=1)) == [AddressChanged(lease, present=False)]
    [own] = netlink.changes_in(address_message())
    assert (own.address.lease, own.address.usable) == (False, True)
    [tentative] = netlink.changes_in(address_message(flags=0x40))
    assert not tentative.address.usable


def test_interfaces_are_read():
    """V13: an interface is up when it is set up and has a carrier; what a bridge says of its ports is no interface."""
    assert netlink.changes_in(link_message()) == [LinkChanged("eth0", Link(2, "eth0", b"\2\0\0\0\0\1", up=True), 2)]
    [down] = netlink.changes_in(link_message(flags=0x01))
    assert down.link is not None
    assert not down.link.up
    assert netlink.changes_in(link_message(17)) == [LinkChanged("eth0", None, 2)]
    assert netlink.changes_in(link_message(family=7)) == []


def test_a_dump_says_when_it_is_over():
    """A dump ends with its last part; one that the tables changed under, or that was refused, is none."""
    assert netlink.dumped(address_message()) == (netlink.changes_in(address_message()), False)
    assert netlink.dumped(link_message() + message(3, bytes(4))) == (netlink.changes_in(link_message()), True)
    with pytest.raises(IncompleteDumpError):
        netlink.dumped(message(20, address_message()[16:], flags=0x10))
    with pytest.raises(OSError, match="dump"):
        netlink.dumped(message(2, struct.pack("=i", -1)))


@given(st.binary(max_size=64), st.sampled_from([16, 17, 20, 21, 99]))
def test_no_attribute_is_read_past_the_end(rest, kind):
    """Invariant: whatever attributes follow a whole head, reading ends, with at most one change."""
    body = struct.pack("=BxHiII", 0, 1, 2, 0, 0) if kind < 20 else struct.pack("=BBBBi", 2, 32, 0, 0, 2)
    with contextlib.suppress(ValueError, struct.error):  # an attribute of a wrong length, which no kernel sends
        assert len(netlink.changes_in(message(kind, body + rest))) <= 1
