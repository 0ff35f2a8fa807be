"""proxy.relay.sockets.own_addresses: addresses that are this host's, or were."""

from proxy.relay.sockets import own_addresses
from proxy.relay.sockets.own_addresses import KNOWN, Homes


def test_whose_an_address_is():
    """U8: an address of this host is told from one that nobody has here."""
    known = Homes()
    assert known.has("::1", 0, 10.0)
    assert not known.has("2001:db8::1", 0, 10.0)


def test_what_was_found_is_believed_for_a_while(monkeypatch):
    """U8: an address is looked for once in KNOWN seconds, however many sessions ask, and each scope by itself."""
    looks = []

    def look(host, scope):
        looks.append((host, scope))
        return len(looks) == 1

    monkeypatch.setattr(own_addresses, "_is_ours", look)
    known = Homes()
    for _ in range(3):
        assert known.has("fe80::1", 1, 10.0)
    assert not known.has("fe80::1", 2, 10.0)
    assert known.has("fe80::1", 1, 10.0 + KNOWN - 0.01)
    assert not known.has("fe80::1", 1, 10.0 + KNOWN)
    assert looks == [("fe80::1", 1), ("fe80::1", 2), ("fe80::1", 1)]


def test_what_cannot_be_told_is_ours(monkeypatch):
    """U8: without a descriptor for a look nobody's session is given up."""

    def none(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(own_addresses.socket, "socket", none)
    assert Homes().has("2001:db8::1", 0, 10.0)
