"""Keys of clients: one for each network of each service, which no client can choose."""

from proxy.relay.clients.keys import ClientKeys

KEYS = ClientKeys(b"salt")


def test_who_a_client_is():
    """S8: a client is an IPv4 address or an IPv6 /64, of one service; the key fits a cell."""
    key = KEYS.of(1, "2001:db8:0:1::1")
    assert key == KEYS.of(1, "2001:db8:0:1:ffff::9")
    others = [
        KEYS.of(1, "2001:db8:0:2::1"),
        KEYS.of(2, "2001:db8:0:1::1"),
        KEYS.of(1, "10.0.0.1"),
        KEYS.of(1, "10.0.0.2"),
        ClientKeys(b"other").of(1, "10.0.0.1"),
    ]
    assert len({key, *others}) == 6
    assert all(0 < one < 1 << 63 for one in (key, *others))
    assert KEYS.of(0, "fe80::1%lo") == KEYS.of(0, "fe80::1")


def test_networks():
    """T18: clients of one network, by the prefix of their family, have one key, and those of two have two."""
    keys = ClientKeys(b"salt", 22, 47)
    assert keys.of(0, "10.0.3.255") == keys.of(0, "10.0.0.0") != keys.of(0, "10.0.4.0")
    assert keys.of(0, "2001:db8:1:ffff::") == keys.of(0, "2001:db8::1") != keys.of(0, "2001:db8:2::")
    everybody = ClientKeys(b"salt", 0, 0)
    assert everybody.of(0, "10.0.0.1") == everybody.of(0, "192.0.2.1") != everybody.of(0, "::")
    single = ClientKeys(b"salt", 32, 128)
    assert len({single.of(0, address) for address in ("10.0.0.1", "10.0.0.2", "::1", "::2")}) == 4


def test_clients_are_spread_over_a_whole_table():
    """S8: a key may be even or odd, so that clients belong in every set of a table."""
    assert len({KEYS.of(0, f"10.0.0.{n}") % 16 for n in range(256)}) == 16
