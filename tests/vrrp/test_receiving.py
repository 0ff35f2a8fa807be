"""Which packets count as adverts."""

from collections import Counter
from ipaddress import ip_address

from vrrp.packet import Advert, build
from vrrp.receiving import REFUSED_AGAIN, Receiving
from vrrp.settings import AuthSettings
from vrrp.signing import Signing
from vrrp.sockets import Packet

A, GROUP = ip_address("192.0.2.2"), ip_address("224.0.0.18")
ADVERT = Advert(3, 51, 100, (ip_address("198.51.100.10"),), 1.0)
WALL = 1.7e9


def screened(receiving, *, ttl=255, peers=None, mode="off", wall=WALL, data=None):
    """Return what becomes of an unsigned advert."""
    keys = () if mode == "off" else ((1, bytes(32)),)
    packet = Packet(str(A), str(GROUP), ttl, build(ADVERT, A, GROUP) if data is None else data)
    return receiving.screen(packet, 3, peers, Signing(AuthSettings(mode, keys), 1.0), wall)


def test_each_packet_has_one_counter():
    """V10: what counts is an event, and everything else has a counter of its own; peers are asked for before any field."""
    counters, told = Counter(), []
    receiving = Receiving(counters, told.append)
    assert screened(receiving).source == A
    assert screened(receiving, ttl=64) is None
    assert screened(receiving, data=b"") is None
    assert screened(receiving, data=b"", peers=frozenset([ip_address("192.0.2.9")])) is None
    assert screened(receiving, mode="enforce") is None
    assert counters["adverts_received"] == counters["not_peer"] == 1
    assert counters.total() == 5
    assert len(counters) == 5


def test_a_refusal_is_reported_once_a_minute():
    """V10: adverts without a signature are counted each time, and reported once in a while, however many there are."""
    counters, told = Counter(), []
    receiving = Receiving(counters, told.append)
    for second in range(3 * int(REFUSED_AGAIN)):
        screened(receiving, mode="enforce", wall=WALL + second)
    assert len(told) == 3
    assert sum(counters.values()) == 3 * REFUSED_AGAIN
