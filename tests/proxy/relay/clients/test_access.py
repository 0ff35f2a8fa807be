"""proxy.relay.clients.access: allowed and denied clients of a service."""

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.clients import access
from proxy.relay.clients.access import Access, Blocks


@st.composite
def networks(draw):
    """Draw a CIDR block."""
    address = draw(st.ip_addresses())
    return str(ip_network(f"{address}/{draw(st.integers(0, address.max_prefixlen))}", strict=False))


@given(st.lists(networks(), max_size=6), st.lists(st.ip_addresses().map(str), min_size=1, max_size=6))
def test_as_ipaddress_says(blocks, addresses):
    """An address is in a set of blocks exactly when it is in one of them, asked once or again."""
    made = Blocks(blocks)
    for address in addresses * 2:
        assert (address in made) == any(ip_address(address) in ip_network(block) for block in blocks)


def test_deny_wins():
    """Deny wins over allow; with allow all others are kept out, without it let in."""
    both = Access(["10.0.0.0/8", "fd00::/8"], ["10.0.0.66/32"])
    assert [both.permits(one) for one in ("10.0.0.1", "10.0.0.66", "192.0.2.1", "fd00::1", "2001:db8::1")] == [
        True, False, False, True, False,
    ]  # fmt: skip
    denied = Access([], ["2001:db8::/32"])
    assert [denied.permits(one) for one in ("192.0.2.1", "2001:db8::1", "fe80::1%eth0")] == [True, False, True]
    assert Access([], []).anybody
    assert not denied.anybody


def test_what_is_remembered_is_bounded(monkeypatch):
    """However many addresses ask, no more than a bound is remembered, and the answers stay right."""
    monkeypatch.setattr(access, "REMEMBERED", 10)
    made = Blocks(["10.0.0.0/25"])
    assert [f"10.0.0.{last}" in made for last in range(256)] == [last < 128 for last in range(256)]
    assert len(made._seen) <= 10
