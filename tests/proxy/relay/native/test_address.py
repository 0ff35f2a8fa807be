"""Addresses go to C and come back."""

import pytest

from proxy.relay.native.address import round_trip


@pytest.mark.parametrize(
    "client",
    [
        ("192.0.2.1", 53),
        ("192.0.2.1", 65535, b"\1\0\0\0\xc0\0\2\1\0\0\0\0"),
        ("2001:db8::1", 53, 0, 0),
        ("fe80::1", 1, 7, 4_000_000_000),
        ("::1", 53, 0, 0, bytes(range(20))),
    ],
)
def test_a_client_comes_back(client) -> None:
    """A client of either family, with or without the address that it asked, is the same after the way through C."""
    assert round_trip(client) == client


@pytest.mark.parametrize("host", ["localhost", "192.0.2", "2001:db8::1%eth0", ""])
def test_what_is_no_address_is_refused(host) -> None:
    """Only IP addresses are converted: a name would need a look-up, which blocks."""
    with pytest.raises(OSError, match="illegal IP address"):
        round_trip((host, 53))
