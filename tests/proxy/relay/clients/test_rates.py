"""Rates of clients, over all workers."""

import os
import random
import select
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.clients import rates
from proxy.relay.clients.rates import BURST, ENTRIES
from proxy.relay.native.rates import Rate, Rates, arrival
from proxy.relay.plan import LimitsPlan
from tests.proxy.relay.conftest import Relay, eventually
from tests.proxy.relay.dnsbed import Server, ask, client, query
from tests.proxy.relay.streams import accept, connect, listen, turned_away, where

SECOND = 1_000_000_000


@given(
    st.integers(1, 5 * SECOND),
    st.lists(st.integers(0, SECOND), min_size=1, max_size=200),
)
def test_no_second_has_more_than_the_rate(interval, gaps):
    """S8: in any span of time a client gets its rate times that span, and one second's worth (or one) at once."""
    now, before, granted = 0, 0, []
    for gap in gaps:
        now += gap
        after = arrival(before, now, interval)
        if after is not None:
            before = after
            granted.append(now)
    burst = max(BURST, interval)
    for at, first in enumerate(granted):
        for count, last in enumerate(granted[at:], 1):
            assert (count - 1) * interval <= last - first + burst
    assert granted[0] == gaps[0]


def test_who_waits_long_enough_is_always_granted():
    """S8: a client that keeps to its rate is never refused."""
    before = 0
    for number in range(10_000):
        after = arrival(before, number * 1000, 1000)
        assert after is not None
        before = after


@pytest.fixture
def table():
    """Two workers' views of one table."""
    fd = rates.create()
    views = Rates(fd, b"salt"), Rates(fd, b"salt")
    os.close(fd)
    yield views
    for one in views:
        one.close()


def test_a_million_invented_clients(table):
    """U18, S8: a flood of invented clients does not grow the table; a real one is granted its rate before, in and after it.

    The flood finds places while entries end, and passes uncounted where none does.
    """
    one, two = (Rate(view, 10.0, 0, "udp") for view in table)
    answers = {"granted": 0, "refused": 0, "unknown": 0}
    rng = random.Random(1)
    now = 100.0
    for number in range(200_000):
        now += 1e-6
        address = socket.inet_ntoa(rng.getrandbits(32).to_bytes(4, "big"))
        answers[(one, two)[number & 1].ask(address, now)] += 1
        if number % 50_000 == 0:
            assert one.ask("192.0.2.1", now) in {"granted", "unknown"}
    assert answers["granted"] > 0.99 * ENTRIES
    assert answers["unknown"] > 50_000
    assert answers["refused"] < 100
    assert two.ask("192.0.2.2", now + 1.0) == "granted"  # the flood's entries are over


def test_one_client_has_one_rate_in_all_workers(table):
    """S8: grants of one worker count in the other; other clients, services and transports have separate counts."""
    one, two = (Rate(view, 4.0, 0, "udp") for view in table)
    assert [(one, two)[n & 1].ask("192.0.2.1", 5.0) for n in range(6)] == ["granted"] * 4 + ["refused"] * 2
    assert one.ask("192.0.2.2", 5.0) == "granted"
    assert one.ask("2001:db8::1", 5.0) == "granted"
    assert Rate(table[0], 4.0, 0, "tcp").ask("192.0.2.1", 5.0) == "granted"
    assert Rate(table[0], 4.0, 1, "udp").ask("192.0.2.1", 5.0) == "granted"
    assert two.ask("192.0.2.1", 5.25) == "granted"
    assert one.ask("192.0.2.1", 5.26) == "refused"


def test_connections_too_fast_are_reset(relay):
    """S8: a client's connections above its rate are reset and counted, those within it are relayed."""
    with listen() as server:
        address = relay.service([where(server)], limits=LimitsPlan(rate=2 / 60))
        relay.start()
        with connect(address), accept(server):
            assert turned_away(address)
            assert (relay.counter("rate_limited"), relay.counter("accepted")) == (1, 2)


def test_sessions_too_fast_are_dropped(relay):
    """S8: a client's new sessions above its rate are dropped and counted; later datagrams of a session do not count."""
    with udp_server() as server:
        address = relay.service([server.getsockname()], transports=("udp",), limits=LimitsPlan(rate=1 / 60))
        relay.start()
        with client(address) as one, client(address) as two:
            for number in range(5):
                one.send(b"%d" % number)
                assert server.recv(10) == b"%d" % number
            two.send(b"late")
            eventually(lambda: relay.counter("rate_limited") == 1)
            assert not select.select([server], [], [], 0.1)[0]


def udp_server():
    """A UDP socket that the test plays the server with."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(5)
    return sock


def test_queries_too_fast_are_sent_to_tcp():
    """U17, S8: of a client's queries above its rate every second gets TC=1, no longer than it asked; two workers agree."""
    server = Server()
    relays = [Relay(), Relay()]
    try:
        os.dup2(relays[0].rates_fd, relays[1].rates_fd)
        addresses = [
            each.service([server.address], protocol="dns", transports=("udp",), limits=LimitsPlan(rate=2.0))
            for each in relays
        ]
        for each in relays:
            each.start()
        for number in (0, 1):
            assert ask(addresses[number], query(ident=number))[3] & 15 == 0
        with client(addresses[0]) as one:
            sent = query("www.example.net", 7, tail=b"")
            one.send(sent)
            one.send(query("www.example.net", 8))
            answer = one.recv(512)
        assert answer[:2] == b"\0\x08"
        assert answer[2] & 0x82 == 0x82
        assert answer[3] & 15 == 0
        assert answer[12:] == sent[12:]
        assert len(answer) <= len(sent)
        assert [relays[0].counter(name) for name in ("rate_limited", "truncated", "queries")] == [2, 1, 3]
        assert len(server.seen) == 2
    finally:
        for each in reversed(relays):
            each.close()
        server.close()
