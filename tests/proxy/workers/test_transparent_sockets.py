"""Transparent sockets, as the master makes them."""

import socket
from pathlib import Path

import pytest

from proxy.processes.channel import DESCRIPTORS
from proxy.workers import transparent_sockets

privileged = pytest.mark.skipif(
    not transparent_sockets.possible(), reason="transparent sockets need CAP_NET_ADMIN or CAP_NET_RAW"
)


@privileged
@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "203.0.113.5"), (socket.AF_INET6, "2001:db8::5")], ids=["4", "6"]
)
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_socket_that_may_have_any_address(family, host, kind):
    """T23: a prepared socket is bound to an address that the host does not have; it does not block."""
    (sock,) = transparent_sockets.make_some(family, kind, 1)
    with sock:
        sock.bind((host, 4000))
        assert sock.getsockname()[:2] == (host, 4000)
        assert not sock.getblocking()


@privileged
def test_what_a_worker_asks_for_is_not_trusted():
    """S9: odd families and types get nothing, and no more sockets are made than one message carries."""
    for family, kind in (
        (socket.AF_UNIX, socket.SOCK_STREAM),
        (socket.AF_INET, socket.SOCK_RAW),
        (0, 0),
        (-1, 1 << 40),
    ):
        assert transparent_sockets.make_some(family, kind, 5) == []
    assert transparent_sockets.make_some(socket.AF_INET, socket.SOCK_STREAM, -1) == []
    made = transparent_sockets.make_some(socket.AF_INET, socket.SOCK_STREAM, 10**9)
    assert len(made) == DESCRIPTORS
    for sock in made:
        sock.close()


def test_without_the_privilege(monkeypatch):
    """T23: without the privilege there are none, and the descriptor is closed."""
    before = len([*Path("/proc/self/fd").iterdir()])

    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(transparent_sockets.socket.socket, "setsockopt", refused)
    assert not transparent_sockets.possible()
    assert transparent_sockets.make_some(socket.AF_INET, socket.SOCK_STREAM, 3) == []
    assert len([*Path("/proc/self/fd").iterdir()]) == before
