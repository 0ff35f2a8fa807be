"""Which prefix, which source, which leftovers: decided from what the interface has."""

from vrrp.address import is_ours, owned_source, prefix_for, refresh_interval, reprefixed, source_for
from vrrp.kernel import Address


def have(address, prefix, *, usable=True, secondary=False, lease=False):
    return Address(2, address, prefix, usable, secondary, lease)


HOST = [have("192.0.2.2", 24), have("2001:db8::2", 64), have("fe80::2", 64)]


def test_a_host_prefix_beside_the_hosts_own_address():
    """V25: an address of a subnet in which the host has one is installed as /32 or /128."""
    assert prefix_for("192.0.2.10/24", HOST) == 32
    assert prefix_for("2001:db8::10/64", HOST) == 128


def test_the_subnets_prefix_without_another_address():
    """An address of a subnet that the host has no address in is installed with the subnet's prefix."""
    assert prefix_for("198.51.100.10/24", HOST) == 24
    assert prefix_for("2001:db8:1::10/64", HOST) == 64


def test_no_prefix_is_a_hosts():
    """An address that is configured without a prefix is a host's."""
    assert prefix_for("198.51.100.10", []) == 32
    assert prefix_for("2001:db8::10", []) == 128


def test_its_own_address_is_no_other():
    """V25: the address itself, there from an earlier run, does not change its prefix; a second one becomes a host's."""
    there = [have("198.51.100.10", 24, lease=True)]
    assert prefix_for("198.51.100.10/24", there) == 24
    assert prefix_for("198.51.100.11/24", there) == 32


def test_host_prefixes_are_no_way_to_a_subnet():
    """A /32 of the same subnet reaches nobody, so the next address brings the subnet's prefix."""
    assert prefix_for("198.51.100.10/24", [have("198.51.100.9", 32)]) == 24


def test_the_source_is_primary_or_link_local():
    """V2: adverts leave from the primary IPv4 and the link-local IPv6 address."""
    present = [have("192.0.2.1", 24, secondary=True), *HOST]
    assert source_for(present, 4, []) == "192.0.2.2"
    assert source_for(present, 6, []) == "fe80::2"


def test_the_source_is_never_virtual():
    """V2, V25: neither a virtual address nor a lease nor one that is tentative is a source."""
    assert source_for([have("192.0.2.10", 24)], 4, ["192.0.2.10/24"]) is None
    assert source_for([have("192.0.2.10", 32, lease=True)], 4, []) is None
    assert source_for([have("fe80::2", 64, usable=False)], 6, []) is None
    assert source_for([have("fe80::10", 64), have("fe80::2", 64)], 6, ["fe80::10"]) == "fe80::2"


def test_the_source_of_an_owner():
    """V7: an owner may send from a virtual address that it has for good, never from one on lease."""
    assert owned_source([have("192.0.2.10", 24), have("fe80::10", 64)], 4, ["192.0.2.10/24"]) == "192.0.2.10"
    assert owned_source([have("192.0.2.10", 24), have("fe80::10", 64)], 6, ["2001:db8::1", "fe80::10/64"]) == "fe80::10"
    assert owned_source([have("2001:db8::10", 64)], 6, ["2001:db8::10/64"]) is None
    assert owned_source([have("192.0.2.10", 32, lease=True)], 4, ["192.0.2.10/24"]) is None
    assert owned_source([have("192.0.2.2", 24)], 4, ["192.0.2.10/24"]) is None


def test_leases_are_ours_and_nothing_else():
    """A leftover is ours when it is a virtual address and has the lifetimes of a lease."""
    assert is_ours(have("192.0.2.10", 32, lease=True), ["192.0.2.10/24"])
    assert not is_ours(have("192.0.2.10", 32), ["192.0.2.10/24"])
    assert not is_ours(have("192.0.2.11", 32, lease=True), ["192.0.2.10/24"])


def test_refreshed_every_half_second():
    """V14: a lease is refreshed twice before it ends, four times where takeovers are slower than leases."""
    assert refresh_interval(1.0) == 0.5
    assert refresh_interval(0.1) == 1.0


def test_the_source_that_peers_know():
    """V2, V10: in unicast adverts leave from the address by which the peers are told to know us, once it is usable."""
    present = [have("192.0.2.1", 24), *HOST]
    assert source_for(present, 4, [], ["192.0.2.2", "2001:db8::2"]) == "192.0.2.2"
    assert source_for(present, 6, [], ["192.0.2.2", "2001:db8::2"]) == "2001:db8::2"
    assert source_for(present, 6, [], ["192.0.2.2"]) == "fe80::2"
    assert source_for(present, 4, [], ["192.0.2.3"]) is None
    assert source_for([have("192.0.2.2", 24, usable=False)], 4, [], ["192.0.2.2"]) is None
    assert source_for(present, 4, ["192.0.2.2/24"], ["192.0.2.2"]) is None


def test_another_prefix_of_the_same_address():
    """An address that keeps its number and changes its prefix is to be installed again; one that comes or goes is not."""
    assert reprefixed(["192.0.2.1/24", "192.0.2.9/24"], ["192.0.2.1/32", "192.0.2.9/24"])
    assert not reprefixed(["192.0.2.1/24"], ["192.0.2.2/24"])
    assert not reprefixed(["192.0.2.1/24"], ["192.0.2.1/24", "192.0.2.2/32"])
