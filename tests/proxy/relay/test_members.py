"""Listeners that go for good: what is queued in them is served, and their ports are free."""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from proxy.relay import members
from proxy.relay.plan import Member
from tests.proxy.relay.conftest import UDP, Relay, eventually
from tests.proxy.relay.dnsbed import Backend, answer, client, query
from tests.proxy.relay.streams import accept, connect, listen, where

Address = tuple[str, int]


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A listening backend."""
    with listen() as sock:
        yield sock


def take_away(relay: Relay, *, drain: bool = True) -> None:
    """Let the master close its sockets of all listeners, and the worker stop to poll them."""
    for _, sock in relay._listeners:
        sock.close()
    taken, relay._listeners = relay._listeners, []
    relay.call(lambda: [relay.engine.unlisten(member.listener, member.index, drain) for member, _ in taken])


def test_queued_clients_are_served(relay: Relay, server: socket.socket) -> None:
    """R3: clients that were queued when a listener went are served, and later ones are refused."""
    at = relay.service([where(server)])
    relay.start()
    with contextlib.ExitStack() as stack:
        clients: list[socket.socket] = []

        def go() -> None:  # on the relay's thread, which takes no client meanwhile
            clients.extend(stack.enter_context(connect(at)) for _ in range(100))
            for _, sock in relay._listeners:
                sock.close()
            relay._listeners.clear()
            relay.engine.unlisten(0, 0, True)

        relay.call(go)
        for one in clients:
            one.sendall(b"x")
        for _ in clients:
            assert stack.enter_context(accept(server)).recv(1) == b"x"
        eventually(lambda: not relay.engine._members.polled)
        with pytest.raises(ConnectionRefusedError):
            connect(at)
    eventually(lambda: relay.counter("sessions") == 0)


def test_a_listener_that_never_dries(relay: Relay, server: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """R3: clients that wait for room in a listener that is gone are served if room comes in time, and hold it no longer."""
    monkeypatch.setattr(members, "DRAIN_LIMIT", 0.3)
    relay.max_connections = 1
    at = relay.service([where(server)])
    relay.start()
    with connect(at) as one, accept(server) as end, connect(at) as two, connect(at):
        take_away(relay)
        one.close()
        end.close()
        two.sendall(b"x")
        with accept(server) as later:
            assert later.recv(1) == b"x"
            eventually(lambda: not relay.engine._members.polled, within=1)


def test_queries_in_flight_keep_the_socket(relay: Relay) -> None:
    """R3: queries that were taken from a listener that is gone are answered through it, then its socket is closed."""
    backend = Backend()
    at = relay.service([backend.address], transports=("udp",), protocol="dns")
    relay.start()
    with client(at) as one, contextlib.closing(backend):
        one.send(query())
        asked, source = backend.take()
        take_away(relay)
        eventually(lambda: len(relay.engine._members.retired) == 1)
        backend.reply(answer(asked), source)
        assert one.recv(100) == answer(query())
        eventually(lambda: not relay.engine._members.retired, within=2)


def test_a_session_gives_the_port_back(relay: Relay) -> None:
    """R3: sessions of a listener that is gone end when they are quiet, so that its port can be bound again."""
    backend = Backend()
    at = relay.service([backend.address], transports=("udp",), udp=replace(UDP, idle_timeout=float("inf")))
    relay.start()
    with client(at) as one, contextlib.closing(backend):
        one.send(b"one")
        _, source = backend.take()
        take_away(relay)
        backend.reply(b"re", source)
        assert one.recv(100) == b"re"
        eventually(lambda: relay.counter("sessions") == 0, within=3)
        eventually(lambda: not relay.engine._members.retired)
        with socket.socket(type=socket.SOCK_DGRAM) as again:
            again.bind(at)


def test_a_session_without_a_pause(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """R3: a session that never pauses keeps the port of a listener that is gone for a limited time."""
    monkeypatch.setattr(members, "RETIRED_LIMIT", 0.5)
    backend = Backend()
    at = relay.service([backend.address], transports=("udp",))
    relay.start()
    with client(at) as one, contextlib.closing(backend):
        one.send(b"one")
        _, source = backend.take()
        take_away(relay)

        def over() -> bool:
            backend.reply(b"re", source)
            return not relay.engine._members.retired

        eventually(over, within=3)


def test_a_member_that_another_worker_polls(relay: Relay) -> None:
    """R10: a member that another worker polls from now on keeps its sessions until their idle-timeout."""
    backend = Backend()
    at = relay.service([backend.address], transports=("udp",))
    relay.start()
    with client(at) as one, contextlib.closing(backend):
        one.send(b"one")
        backend.take()
        relay.call(lambda: relay.engine.unlisten(0, 0))
        assert [until for _, _, until in relay.engine._members.retired] == [float("inf")]


def test_a_listener_of_another_service(relay: Relay, server: socket.socket) -> None:
    """R3: a listener that is given to another service serves that one from its next client on; given again, it stays."""
    with listen() as other:
        at = relay.service([where(server)])
        relay.service([where(other)])
        (member, sock), _ = relay._listeners
        relay.start()
        moved = Member(member.listener, member.index, 1, "tcp", *at)
        with connect(at) as one, accept(server) as end:
            relay.call(lambda: relay.engine.listen(moved, sock.dup()))
            polled = relay.engine._members.polled[0, 0]
            relay.call(lambda: relay.engine.listen(moved, sock.dup()))
            assert relay.engine._members.polled[0, 0] is polled
            with connect(at) as two, accept(other) as there:
                two.sendall(b"two")
                assert there.recv(3) == b"two"
            one.sendall(b"one")
            assert end.recv(3) == b"one"
