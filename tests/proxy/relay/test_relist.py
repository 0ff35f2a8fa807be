"""New backends for a running service: those that stay keep their state, removed ones lose it, new ones serve."""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.relay.clients.store import Store
from proxy.relay.plan import BackendPlan, LimitsPlan, PersistencePlan, ServicePlan
from proxy.stats.layout import BACKEND_QUEUED
from tests.proxy.relay.conftest import LAYOUT, UDP, Relay, eventually

Address = tuple[str, int]


class Servers:
    """Backends of one transport on loopback, by name, and the plan of a service that has some of them."""

    def __init__(self, relay: Relay, kind: socket.SocketKind) -> None:
        self.relay = relay
        self.kind = kind
        self.socks: list[socket.socket] = []
        for _ in range(3):
            sock = socket.socket(socket.AF_INET, kind)
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(5)
            if kind == socket.SOCK_STREAM:
                sock.listen()
            self.socks.append(sock)

    def __getitem__(self, place: int) -> socket.socket:
        return self.socks[place]

    @property
    def names(self) -> list[Address]:
        """Where they are."""
        return [sock.getsockname() for sock in self.socks]

    def list(self, *places: int, **changes: Any) -> None:
        """Let the first service have these backends from now on, each in the slot of its place; those that come are up."""
        plan = self.relay.services[0]
        known = {backend.slot: backend for backend in plan.backends}
        backends = []
        for place in places:
            host, port = self.names[place]
            new = BackendPlan(place, f"{host}:{port}", host, port, 1, **changes)
            backends.append(known.get(place, new))
        listed = replace(plan, backends=tuple(backends))
        self.relay.services[0] = listed
        self.relay.call(lambda: self._serve(listed))

    def _serve(self, plan: ServicePlan) -> None:
        self.relay.engine.change([plan], [], 2, lambda _: None)
        self.relay.engine.apply([(0, backend.slot, "up", "ready") for backend in plan.backends])


@pytest.fixture
def stream(relay: Relay) -> Iterator[Servers]:
    """Three backends that listen for connections."""
    servers = Servers(relay, socket.SOCK_STREAM)
    yield servers
    for sock in servers.socks:
        sock.close()


@pytest.fixture
def datagrams(relay: Relay) -> Iterator[Servers]:
    """Three backends that take datagrams."""
    servers = Servers(relay, socket.SOCK_DGRAM)
    yield servers
    for sock in servers.socks:
        sock.close()


def connection(at: Address, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """A client's end and its backend's end of a connection."""
    client = socket.create_connection(at, timeout=5)
    backend, _ = server.accept()
    backend.settimeout(5)
    return client, backend


def descriptors() -> int:
    """How many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_what_stays_keeps_its_connections(relay: Relay, stream: Servers) -> None:
    """T16: a connection to a backend that stays goes on while others come and go, though its place in the list changes."""
    at = relay.service(stream.names[:2], scheduler="failover")
    relay.start()
    with contextlib.ExitStack() as stack:
        first = [stack.enter_context(end) for end in connection(at, stream[0])]
        stream.list(2, 0)
        first[0].sendall(b"still there?")
        assert first[1].recv(100) == b"still there?"
        assert relay.backend(stream.names[0], "active") == 1
        second = [stack.enter_context(end) for end in connection(at, stream[2])]
        second[0].sendall(b"new")
        assert second[1].recv(10) == b"new"
    eventually(lambda: relay.backend(stream.names[0], "active") == 0)


def test_what_goes_is_let_go(relay: Relay, stream: Servers) -> None:
    """T16: a backend that is no longer listed gets no new connections, and its open ones are reset."""
    at = relay.service(stream.names[:2], scheduler="failover")
    relay.start()
    with contextlib.ExitStack() as stack:
        client, backend = (stack.enter_context(end) for end in connection(at, stream[0]))
        stream.list(1)
        for end in (client, backend):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
        stack.enter_context(socket.create_connection(at, timeout=5))
        stack.enter_context(stream[1].accept()[0])
        assert relay.counter("drained_hard") == 1


def test_one_that_is_new_is_unknown(relay: Relay, stream: Servers) -> None:
    """H1: a backend that is added gets nothing before its first pass."""
    at = relay.service(stream.names[:1], scheduler="round-robin")
    relay.start()
    plan = relay.services[0]
    host, port = stream.names[1]
    listed = replace(plan, backends=(*plan.backends, BackendPlan(1, "new", host, port, 1)))
    relay.call(lambda: relay.engine.change([listed], [], 2, lambda _: None))
    stream[1].settimeout(0.2)
    for _ in range(4):
        socket.create_connection(at, timeout=5).close()
    with pytest.raises(TimeoutError):
        stream[1].accept()
    relay.call(lambda: relay.engine.apply([(0, 1, "up", "ready")]))
    for _ in range(2):
        socket.create_connection(at, timeout=5).close()
    stream[1].accept()[0].close()


def test_sessions_of_one_that_goes_move(relay: Relay, datagrams: Servers) -> None:
    """U15: the sessions of a backend that is not listed any more move with their next datagram, the others stay."""
    at = relay.service(datagrams.names[:2], transports=("udp",), scheduler="failover")
    relay.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"1", at)
        assert datagrams[0].recv(10) == b"1"
        datagrams.list(2, 1, 0)
        client.sendto(b"2", at)
        assert datagrams[0].recv(10) == b"2"
        datagrams.list(2, 1)
        client.sendto(b"3", at)
        assert datagrams[2].recv(10) == b"3"


def test_datagrams_without_sessions(relay: Relay, datagrams: Servers) -> None:
    """U15: without sessions the next datagram goes to a listed backend, and sockets to removed ones are closed."""
    at = relay.service(datagrams.names[:1], transports=("udp",), udp=replace(UDP, per_datagram=True))
    relay.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"1", at)
        assert datagrams[0].recv(10) == b"1"
        datagrams.list(1)
        before = descriptors()
        client.sendto(b"2", at)
        assert datagrams[1].recv(10) == b"2"
        for turn in range(20):
            datagrams.list(turn % 2)
            client.sendto(b"3", at)
            assert datagrams[turn % 2].recv(10) == b"3"
        assert descriptors() == before + 1


def test_queries_in_flight_are_answered(relay: Relay, datagrams: Servers) -> None:
    """U9: the answer of a DNS backend that was asked before it was taken from the list still reaches its client."""
    at = relay.service(datagrams.names[:2], transports=("udp",), protocol="dns", scheduler="failover")
    relay.start()
    query = bytes.fromhex("abcd01000001000000000000") + b"\x03www\x07example\x00" + bytes.fromhex("00010001")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(query, at)
        asked, whence = datagrams[0].recvfrom(100)
        datagrams.list(1, 2)
        datagrams[0].sendto(asked[:2] + b"\x81\x80" + asked[4:], whence)
        assert client.recv(100)[:4] == b"\xab\xcd\x81\x80"
        client.sendto(query, at)
        assert datagrams[1].recv(100)[2:] == query[2:]


def test_a_hundred_changes_leave_nothing(relay: Relay, datagrams: Servers) -> None:
    """R3: a list that changes again and again leaves neither sockets nor records of the backends that have gone."""
    at = relay.service(datagrams.names[:1], transports=("udp",), protocol="dns")
    relay.start()
    query = bytes.fromhex("abcd01000001000000000000") + b"\x03www\x07example\x00" + bytes.fromhex("00010001")
    dns = relay.engine._relays[0, "udp"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        for turn in range(100):
            place = turn % 2
            client.sendto(query, at)
            asked, whence = datagrams[place].recvfrom(100)
            datagrams[place].sendto(asked[:2] + b"\x81\x80" + asked[4:], whence)
            client.recv(100)
            datagrams.list(1 - place)
    assert relay.call(lambda: (len(dns._peers), len(dns._former))) == (1, 100)
    relay.call(lambda: [peer.close() for peer in dns._former])
    datagrams.list(2)
    assert relay.call(lambda: (len(dns._peers), len(dns._former))) == (1, 1)


def test_a_limited_backend_that_comes(relay: Relay, stream: Servers) -> None:
    """T21: the max-connections of a backend holds although it is added to a service without limits."""
    at = relay.service(stream.names[:1], scheduler="round-robin")
    relay.start()
    stream.list(1, max_connections=1)
    with contextlib.ExitStack() as stack:
        for end in connection(at, stream[1]):
            stack.enter_context(end)
        with pytest.raises(ConnectionResetError), socket.create_connection(at, timeout=5) as refused:
            refused.recv(1)
    assert relay.counter("refused_limit") == 1


def test_who_waits_for_one_that_goes(relay: Relay, stream: Servers) -> None:
    """T21: a client that waits for a removed backend's slot waits for another backend's, and is counted only there."""
    at = relay.service(stream.names[:2], limit=1, limits=LimitsPlan(queue_size=10, queue_timeout=30.0))
    relay.start()
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(socket.create_connection(at, timeout=5))
        ends = [stack.enter_context(stream[place].accept()[0]) for place in (0, 1)]
        waiting = [stack.enter_context(socket.create_connection(at, timeout=5)) for _ in range(3)]
        eventually(lambda: relay.counter("queued") == 3)
        stream.list(1, 2, max_connections=1)
        third = stack.enter_context(stream[2].accept()[0])
        eventually(lambda: relay.counter("queued") == 2)
        assert queued(relay) == [0, 2, 0]
        for sock in (*waiting, *ends, third):
            sock.close()
        eventually(lambda: relay.counter("queued") == 0)
        assert queued(relay) == [0, 0, 0]


def queued(relay: Relay) -> list[int]:
    """How many clients wait for each of the backends, listed or not."""
    return [relay.table.cells[LAYOUT.backend(slot) + BACKEND_QUEUED] for slot in range(3)]


def test_weights_come_with_the_list(relay: Relay, stream: Servers) -> None:
    """T24: a backend that stays has from the first moment of the new list the weight that it says."""
    at = relay.service(stream.names[:2], scheduler="round-robin")
    relay.start()
    plan = relay.services[0]
    host, port = stream.names[2]
    weights = (0, 1)
    backends = [replace(one, weight=weight) for one, weight in zip(plan.backends, weights, strict=True)]
    listed = replace(plan, backends=(*backends, BackendPlan(2, "new", host, port, 1)))
    relay.call(lambda: relay.engine.change([listed], [], 2, lambda _: None))
    for _ in range(4):
        for end in connection(at, stream[1]):
            end.close()


def test_kept_clients_of_one_that_goes(relay: Relay, stream: Servers) -> None:
    """T16: a client that keeps its backend gets another one when that is taken from the list, and keeps the new one."""
    relay.store = Store.create()
    at = relay.service(stream.names[:3], scheduler="failover", persistence=PersistencePlan(60.0, 32, 128))
    relay.start()
    for end in connection(at, stream[0]):
        end.close()
    stream.list(1, 2)
    for _ in range(2):
        for end in connection(at, stream[1]):
            end.close()
