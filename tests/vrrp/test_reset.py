"""Which connections are of which address."""

from ipaddress import ip_address

from vrrp.reset import place_of


def test_a_link_local_address_is_of_an_interface():
    """V22: the same link-local address on two interfaces is two addresses; any other one is the host's."""
    assert place_of(ip_address("fe80::10"), 2) != place_of(ip_address("fe80::10"), 3)
    assert place_of(ip_address("2001:db8::10"), 2) == place_of(ip_address("2001:db8::10"), 3)
    assert place_of(ip_address("169.254.0.10"), 2) == place_of(ip_address("169.254.0.10"), 3)
