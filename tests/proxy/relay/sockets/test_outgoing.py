"""UDP sockets to backends: connected, from random ports."""

import socket

import pytest

from proxy.relay.sockets import outgoing
from proxy.relay.sockets.outgoing import connected
from tests.proxy.relay.conftest import free_port
from tests.proxy.relay.dnsbed import Server


@pytest.fixture
def server():
    """A backend that answers by itself."""
    one = Server()
    yield one
    one.close()


def test_connected_to_nobody_else(server):
    """U2, U20: a socket is connected before it is used, does not block, and its port is drawn anew each time."""
    socks = [connected(*server.address) for _ in range(50)]
    for sock in socks:
        assert sock.getpeername() == server.address
        assert not sock.getblocking()
    drawn = [sock.getsockname()[1] for sock in socks]
    assert len(set(drawn)) == 50
    assert drawn != sorted(drawn)
    for sock in socks:
        sock.close()


def test_the_port_is_ours_to_draw(server, monkeypatch):
    """U20: the port is the one that SystemRandom drew from the range, and the kernel's choice where that is taken."""
    port = free_port(socket.SOCK_DGRAM)
    monkeypatch.setattr(outgoing, "_port_range", lambda: (port, port))
    with connected(*server.address) as sock, connected(*server.address) as other:
        assert sock.getsockname()[1] == port != other.getsockname()[1]


def test_what_came_before_the_connection_is_not_read(server, monkeypatch):
    """U2: a datagram that slips in between binding and connecting is thrown away."""
    forger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    class Slow(socket.socket):
        def connect(self, address):
            forger.sendto(b"forged", ("127.0.0.1", self.getsockname()[1]))
            super().connect(address)

    monkeypatch.setattr(outgoing.socket, "socket", Slow)
    sock = connected(*server.address)
    with pytest.raises(BlockingIOError):
        sock.recv(100)
    sock.close()
    forger.close()
