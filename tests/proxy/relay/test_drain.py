"""Draining and maintenance, as the relay carries them out."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.proxy.relay.conftest import Relay, eventually


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A listening backend."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(5)
        yield sock


def connect(at: tuple[str, int], server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """A client's end and its backend's end of one connection through the relay."""
    client = socket.create_connection(at, timeout=5)
    backend, _ = server.accept()
    backend.settimeout(5)
    return client, backend


def test_a_draining_backend_finishes_what_it_has(relay: Relay, server: socket.socket) -> None:
    """T16: a draining backend gets no new connection and keeps its old ones."""
    at = relay.service([server.getsockname()])
    relay.start()
    client, backend = connect(at, server)
    with closing(client), closing(backend):
        relay.verdict(server.getsockname(), "up", "drain")
        # The RST may come before connect has noticed that it is connected.
        with pytest.raises(ConnectionResetError), socket.create_connection(at, timeout=5) as refused:
            refused.recv(1)
        client.sendall(b"still there?")
        assert backend.recv(100) == b"still there?"
        backend.sendall(b"yes")
        assert client.recv(100) == b"yes"


def test_a_drained_backend_is_cut_when_told(relay: Relay, server: socket.socket) -> None:
    """T16: connections that are left on a draining backend at its deadline are reset on both sides."""
    at = relay.service([server.getsockname()])
    relay.start()
    client, backend = connect(at, server)
    with closing(client), closing(backend):
        relay.verdict(server.getsockname(), "up", "drain")
        relay.verdict(server.getsockname(), "up", "maint")
        for end in (client, backend):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
    assert relay.counter("drained_hard") == 1
    eventually(lambda: relay.backend(server.getsockname(), "active") == 0)


def test_a_backend_that_is_ready_again_keeps_its_connections(relay: Relay, server: socket.socket) -> None:
    """T16: a drain that is taken back ends nothing."""
    at = relay.service([server.getsockname()])
    relay.start()
    client, backend = connect(at, server)
    with closing(client), closing(backend):
        relay.verdict(server.getsockname(), "up", "drain")
        relay.verdict(server.getsockname(), "up", "ready")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
    assert relay.counter("drained_hard") == 0


def test_maintenance_ends_connections_at_once(relay: Relay, server: socket.socket) -> None:
    """T16: a backend put to maintenance loses its connections at once."""
    at = relay.service([server.getsockname()])
    relay.start()
    client, backend = connect(at, server)
    with closing(client), closing(backend):
        relay.verdict(server.getsockname(), "up", "maint")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_sessions_of_a_drained_backend_begin_anew(relay: Relay) -> None:
    """T16: at the deadline of a drain, which makes it a maintenance, UDP sessions end, and the next datagram goes elsewhere."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        for sock in (one, two):
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(5)
        names = [one.getsockname(), two.getsockname()]
        at = relay.service(names, transports=("udp",), scheduler="failover")
        relay.start()
        client.sendto(b"1", at)
        assert one.recv(10) == b"1"
        relay.verdict(names[0], "up", "drain")
        client.sendto(b"2", at)
        assert one.recv(10) == b"2"
        relay.verdict(names[0], "up", "maint")
        eventually(lambda: relay.counter("sessions") == 0)
        client.sendto(b"3", at)
        assert two.recv(10) == b"3"
