"""A worker's reports of real traffic that fails on a backend."""

import socket
import time

from proxy.relay.plan import LimitsPlan
from proxy.relay.service import Service
from tests.proxy.relay.conftest import DNS, eventually, free_port
from tests.proxy.relay.dnsbed import Server, answer, ask, client, query
from tests.proxy.relay.streams import accept, connect, listen, where

THREE = LimitsPlan(errors=3)


def test_failed_connects_in_a_row(relay):
    """H12: failed connects in a row are reported with their number, at most ten times a second; no client notices."""
    closed = ("127.0.0.1", free_port())
    with listen() as server:
        address = relay.service([closed, where(server)], scheduler="failover", limits=THREE)
        relay.start()
        began = time.monotonic()
        for count in range(1, 100):
            with connect(address), accept(server):
                pass
            if count == 2:
                assert relay.failing == []
            if count == 3:
                eventually(lambda: relay.failing == [(0, 0, 3)])
        assert len(relay.failing) <= 1 + (time.monotonic() - began) / Service.HINT_PAUSE
        assert all(failures >= 3 for _, _, failures in relay.failing)


def test_a_success_counts_anew(relay):
    """H12: failures that are not in a row never add up."""
    port = free_port()
    with listen() as other:
        address = relay.service([("127.0.0.1", port), where(other)], scheduler="failover", limits=THREE)
        relay.start()
        for _ in range(3):
            for _ in range(2):
                with connect(address), accept(other):
                    pass
            with listen_on(port) as server, connect(address), accept(server):
                eventually(lambda: relay.backend(("127.0.0.1", port), "active") == 1)
        assert relay.backend(("127.0.0.1", port), "connect_refused") == 6
        assert relay.failing == []


def listen_on(port):
    """A server on a given port of loopback."""
    sock = socket.create_server(("127.0.0.1", port))
    sock.settimeout(10)
    return sock


def test_queries_without_an_answer(relay):
    """H12, U9: queries that a backend leaves unanswered are failures; the client is answered by another one."""
    silent, well = Server(lambda _: None), Server(answer)
    try:
        address = relay.service(
            [silent.address, well.address],
            protocol="dns",
            transports=("udp",),
            scheduler="failover",
            limits=THREE,
            dns=DNS,
        )
        relay.start()
        for number in range(3):
            assert ask(address, query(f"n{number}.example.net", number))[3] & 15 == 0
        eventually(lambda: relay.failing == [(0, 0, 3)])
    finally:
        silent.close()
        well.close()


def test_off(relay):
    """H12: without `eject.errors` there are no reports, and hints go on."""
    address = relay.service([("127.0.0.1", free_port())], protocol="dns", transports=("udp",))
    relay.start()
    with client(address) as one:
        for number in range(5):
            one.send(query(f"n{number}.example.net", number))
            one.recv(512)
    assert relay.hints
    assert relay.failing == []
