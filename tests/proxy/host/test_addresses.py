"""Which addresses a host has."""

import pytest

from proxy.host import addresses
from proxy.host.addresses import has, interface_addresses, is_ours

FIB_TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.2
           /32 host LOCAL
"""
IF_INET6 = """fe8000000000000000fc00fffe000001 04 40 20 80     eth0
20010db8000000000000000000000002 04 40 00 82     eth0
"""


@pytest.mark.parametrize(
    ("address", "ours"),
    [
        ("192.0.2.2", True), ("192.0.2.3", False), ("192.0.2.0", False), ("192.0.2.255", False), ("127.9.9.9", True),
        ("2001:db8::2", True), ("2001:db8::3", False), ("fe80::fc:ff:fe00:1%eth0", True), ("fe80::fc:ff:fe00:1%4", True),
        ("fe80::fc:ff:fe00:1%eth1", False),
    ],
)  # fmt: skip
def test_what_the_kernels_tables_say(address, ours):
    """An address is ours where the kernel has it as local, not where it only has a route; a link-local one by its interface."""
    assert has(address, FIB_TRIE, IF_INET6) == ours
    assert not has(address, "", "")


def test_the_host_that_this_runs_on():
    """The loopback address is this host's, one for documentation is not."""
    assert is_ours("127.0.0.1")
    assert not is_ours("203.0.113.77")


def test_the_addresses_of_interfaces(monkeypatch):
    """All addresses of the interfaces are told, however many there are; a link-local one with its interface as well."""
    found = interface_addresses()
    assert "127.0.0.1" in found
    assert all(is_ours(one) for one in found if ":" not in one)
    monkeypatch.setattr(addresses, "_ROOM", 1)
    assert interface_addresses() == found
    monkeypatch.setattr(addresses, "_read", lambda _: IF_INET6)
    assert {"2001:db8::2", "fe80::fc:ff:fe00:1%eth0"} <= interface_addresses()
