"""Services that are gone: they finish what they have, within their time, and their slots are given back after that."""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from proxy.relay.observe.wanted import Wanted
from proxy.relay.plan import LimitsPlan
from proxy.stats.layout import SERVICE_CONNECTIONS, TURN_ACCEPT
from tests.proxy.relay.conftest import LAYOUT, UDP, Relay, eventually
from tests.proxy.relay.dnsbed import Backend, answer, client, query
from tests.proxy.relay.streams import END, RESET, accept, connect, listen, read, where

Address = tuple[str, int]


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A listening backend."""
    with listen() as sock:
        yield sock


def gone(relay: Relay, seconds: float = 30.0, slot: int = 0, generation: int = 2) -> list[int]:
    """Let a service go; return the list that gets the confirmed generations."""
    confirmed: list[int] = []
    relay.call(lambda: relay.engine.change([], [(slot, seconds)], generation, confirmed.append))
    return confirmed


def test_what_is_idle_is_over_at_once(relay: Relay, server: socket.socket) -> None:
    """R3: a service without connections is over as soon as its listeners are dry, and leaves nothing behind."""
    at = relay.service([where(server)], transports=("tcp", "udp"))
    relay.start()
    confirmed = gone(relay)
    eventually(lambda: confirmed == [2])
    assert not relay.engine._services
    assert not list(relay.engine._relays.values())
    assert not relay.engine._admission.services
    with pytest.raises((ConnectionRefusedError, TimeoutError)), socket.create_connection(at, timeout=0.2) as late:
        late.recv(1)


def test_a_connection_ends_first(relay: Relay, server: socket.socket) -> None:
    """R3: a connection of a service that is gone goes on, is listed, and its end lets the generation be confirmed."""
    at = relay.service([where(server)])
    relay.start()
    with connect(at) as one, accept(server) as end:
        confirmed = gone(relay)
        eventually(lambda: not relay.engine._members.polled)
        one.sendall(b"still there?")
        assert end.recv(100) == b"still there?"
        rows, _, _ = relay.call(lambda: relay.engine.browse(1, Wanted("s0", "", ""), reset=False))
        assert [row["service"] for row in rows] == ["s0"]
        assert confirmed == []
    eventually(lambda: confirmed == [2])
    assert relay.counter("drained_hard") == 0


def test_a_connection_is_cut_at_the_deadline(relay: Relay, server: socket.socket) -> None:
    """R3: what is left of a service at its deadline is reset and counted, and the generation is confirmed."""
    at = relay.service([where(server)])
    relay.start()
    with connect(at) as one, accept(server) as end:
        confirmed = gone(relay, 0.3)
        assert read(one) == read(end) == (b"", RESET)
    eventually(lambda: confirmed == [2])
    assert relay.counter("drained_hard") == 1
    assert relay.backend(where(server), "active") == 0


def test_only_the_newest_generation_is_confirmed(relay: Relay, server: socket.socket) -> None:
    """R3: a generation is confirmed when all services are over that were gone until then; only the newest one is told."""
    first, second = (relay.service([where(server)]) for _ in range(2))
    relay.start()
    with connect(first) as one, accept(server) as end:
        told = gone(relay)
        with connect(second), accept(server):
            later = gone(relay, slot=1, generation=3)
            one.close()
            end.close()
            eventually(lambda: 0 not in relay.engine._services)
            assert (told, later) == ([], [])
        eventually(lambda: later == [3])
    assert told == []
    assert relay.call(lambda: relay.engine.idle)


def test_a_session_ends_when_it_is_quiet(relay: Relay) -> None:
    """R3: UDP sessions of a service that is gone end half a second after their last datagram, not after idle-timeout."""
    backend = Backend()
    at = relay.service([backend.address], transports=("udp",), udp=replace(UDP, idle_timeout=float("inf")))
    relay.start()
    with client(at) as one, contextlib.closing(backend):
        one.send(b"one")
        _, source = backend.take()
        confirmed = gone(relay)
        backend.reply(b"re", source)
        assert one.recv(100) == b"re"
        assert confirmed == []
        eventually(lambda: confirmed == [2], within=2)
    assert [relay.counter(name) for name in ("sessions", "expired", "drained_hard")] == [0, 1, 0]


def test_a_query_in_flight_is_answered(relay: Relay) -> None:
    """R3: a query in flight of a service that is gone is answered before the generation is confirmed."""
    backend = Backend()
    at = relay.service([backend.address], transports=("udp",), protocol="dns")
    relay.start()
    with client(at) as one, contextlib.closing(backend):
        one.send(query())
        asked, source = backend.take()
        confirmed = gone(relay)
        eventually(lambda: not relay.engine._members.polled)
        assert confirmed == []
        backend.reply(answer(asked), source)
        assert one.recv(100) == answer(query())
    eventually(lambda: confirmed == [2])


def test_a_query_at_a_backend_that_is_gone(relay: Relay) -> None:
    """R3: the slot of a backend is given back only when no query is in flight there, whose end would be counted in it."""
    backends = [Backend(), Backend()]
    at = relay.service([one.address for one in backends], transports=("udp",), protocol="dns", scheduler="failover")
    relay.start()
    confirmed: list[int] = []
    with client(at) as one:
        one.send(query())
        asked, source = backends[0].take()
        left = replace(relay.services[0], backends=relay.services[0].backends[1:])
        relay.call(lambda: relay.engine.change([left], [], 2, confirmed.append))
        assert confirmed == []
        assert relay.backend(backends[0].address, "active") == 1
        backends[0].reply(answer(asked), source)
        assert one.recv(100) == answer(query())
        eventually(lambda: confirmed == [2])
    assert relay.backend(backends[0].address, "active") == 0
    for backend in backends:
        backend.close()


def test_a_slot_that_is_taken_again(relay: Relay, server: socket.socket) -> None:
    """R3: a service in the slot of one that is gone and not over begins anew: what the old one had is cut."""
    at = relay.service([where(server)])
    relay.start()
    plan = replace(relay.services[0], name="other")
    confirmed: list[int] = []
    with connect(at) as one, accept(server):
        gone(relay)
        relay.call(lambda: relay.engine.change([plan], [], 3, confirmed.append))
        assert read(one) == (b"", RESET)
        assert confirmed == [3]
    assert relay.engine._services[0].plan.name == "other"
    assert relay.call(lambda: relay.engine._relays[0, "tcp"].idle)


def test_no_turn_is_left_behind(relay: Relay, server: socket.socket) -> None:
    """R3: the next service in a slot does not wait for clients that a service before it kept waiting."""
    at = relay.service([where(server)], limits=LimitsPlan(connections=1))
    relay.start()
    cells, base = relay.table.cells, LAYOUT.service(0)
    with connect(at) as one, accept(server) as end, connect(at):
        eventually(lambda: cells[base + TURN_ACCEPT])
        confirmed = gone(relay, 0.3)
        assert read(one)[1] == read(end)[1] == RESET
    eventually(lambda: confirmed == [2])
    assert (cells[base + TURN_ACCEPT], cells[base + SERVICE_CONNECTIONS]) == (0, 0)


def test_a_service_that_is_new(relay: Relay, server: socket.socket) -> None:
    """R3: a service that is added while others serve is served as soon as its listener and a verdict are there."""
    relay.service([where(server)])
    at = relay.service([where(server)])
    added, (member, sock) = relay.services.pop(), relay._listeners.pop()
    added = replace(added, backends=tuple(replace(one, state="unknown") for one in added.backends))
    relay.start()
    confirmed: list[int] = []

    def add() -> None:
        relay.engine.change([added], [], 2, confirmed.append)
        relay.engine.apply([(1, added.backends[0].slot, "up", "ready")])
        relay.engine.listen(member, sock.dup())

    relay.call(add)
    assert confirmed == [2]
    with connect(at) as one, accept(server) as end:
        one.sendall(b"new")
        assert end.recv(10) == b"new"
        end.close()
        assert read(one) == (b"", END)
    sock.close()
