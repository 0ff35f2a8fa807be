"""Which adverts count, and whom a backup defers to."""

import dataclasses
from ipaddress import ip_address

import pytest

from vrrp.events import AdvertReceived, Count, RouterConfig, Tell
from vrrp.listening import Listening
from vrrp.packet import Advert

VIRTUAL = (ip_address("198.51.100.10"),)
OURS, PEER, STRANGER = map(ip_address, ("192.0.2.1", "192.0.2.2", "192.0.2.3"))
CONFIG = RouterConfig("r", 51, VIRTUAL, OURS)


def heard(priority=150, source=PEER, **fields):
    advert = dataclasses.replace(Advert(3, 51, priority, VIRTUAL, 1.0), **fields)
    return AdvertReceived(advert, source)


@pytest.mark.parametrize(
    ("event", "counter"),
    [
        (heard(source=OURS), "own"),
        (heard(source=STRANGER), "not_peer"),
        (heard(version=2), "version"),
        (heard(vrid=52), "vrid"),
    ],
)
def test_strangers(event, counter):
    """V1, V10: what is not of this router or, in unicast, not of a peer is counted and leaves no trace."""
    listening = Listening(dataclasses.replace(CONFIG, peers=frozenset({PEER})))
    assert listening.screened(event, 1.0) == (None, (Count(counter),))
    assert listening.peer is None


def test_multicast_has_no_peers():
    """V10: in multicast everybody on the segment counts."""
    assert Listening(CONFIG).screened(heard(source=STRANGER), 1.0)[0] is not None


def test_v2_interval():
    """V1: version 2 ignores adverts of another interval and tells it (RFC 3768); version 3 learns it."""
    second = Listening(dataclasses.replace(CONFIG, version=2))
    advert, commands = second.screened(heard(version=2, interval=2.0), 1.0)
    assert advert is None
    assert commands[0] == Count("interval_differs")
    assert isinstance(commands[1], Tell)
    assert Listening(CONFIG).screened(heard(interval=2.0), 1.0)[0] is not None


def test_differing_addresses():
    """V2: another list of addresses is counted each time, told every 10 s, and the advert counts."""
    listening = Listening(CONFIG)
    event = heard(addresses=(*VIRTUAL, ip_address("198.51.100.11")))
    told = 0
    for second in range(20):
        advert, commands = listening.screened(event, float(second))
        assert advert is event.advert
        assert commands[0] == Count("addresses_differ")
        told += len(commands) - 1
    assert told == 2


def defers(listening, priority, ours=100, now=0.0, source=PEER):
    return listening.defers(heard(priority).advert, source, ours, now)


def test_preemption():
    """V4: with preemption a backup defers to higher and equal priorities, without it to lower ones as well."""
    assert [defers(Listening(CONFIG), priority) for priority in (99, 100, 101)] == [False, True, True]
    polite = dataclasses.replace(CONFIG, preempt=False)
    assert [defers(Listening(polite), priority) for priority in (1, 100, 101)] == [True, True, True]


def test_owner_preempts():
    """V7: an owner defers to nobody below it, with or without preemption."""
    assert not defers(Listening(dataclasses.replace(CONFIG, preempt=False)), 254, ours=255)


def test_lost_fitness():
    """V11: without preemption a backup leaves a lower active alone, but not one that falls below what it was."""
    listening = Listening(dataclasses.replace(CONFIG, preempt=False))
    assert [defers(listening, priority) for priority in (90, 90, 40, 40, 90)] == [True, True, False, False, True]
    assert defers(listening, 40, source=STRANGER)
    listening.begin()
    assert defers(listening, 40)


def test_preempt_delay():
    """V11: a lower active is left alone for preempt-delay, counted from its first advert that was lower."""
    listening = Listening(dataclasses.replace(CONFIG, preempt_delay=10.0))
    assert [defers(listening, 50, now=now) for now in (1.0, 10.9, 11.0, 30.0)] == [True, True, False, False]
    assert defers(listening, 150, now=31.0)
    assert defers(listening, 50, now=32.0)
