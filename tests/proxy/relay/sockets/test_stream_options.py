"""Options of TCP sockets, as the kernel has them."""

import math
import socket

import pytest

from proxy.relay.sockets import stream_options
from tests.proxy.relay.streams import connect, where


def option(sock: socket.socket, name: int, level: int = socket.IPPROTO_TCP) -> int:
    """Return what the kernel has."""
    return sock.getsockopt(level, name)


@pytest.fixture
def sock():
    """A TCP socket without options."""
    with socket.socket() as made:
        yield made


def test_everything_is_set(sock):
    """T8: no delay, keepalive after the configured silence in three probes, and the limit on unacknowledged data."""
    stream_options.tune(sock, 120.0, 30.0)
    assert option(sock, socket.TCP_NODELAY) == 1
    assert option(sock, socket.SO_KEEPALIVE, socket.SOL_SOCKET) == 1
    names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, stream_options.TCP_USER_TIMEOUT)
    assert [option(sock, name) for name in names] == [120, 40, 3, 30_000]


def test_never_leaves_them_off(sock):
    """T8: a duration of `never` leaves keepalive and the user timeout as the kernel has them: off."""
    stream_options.tune(sock, math.inf, math.inf)
    assert option(sock, socket.TCP_NODELAY) == 1
    assert option(sock, socket.SO_KEEPALIVE, socket.SOL_SOCKET) == 0
    assert option(sock, stream_options.TCP_USER_TIMEOUT) == 0


@pytest.mark.parametrize(
    ("keepalive", "user_timeout", "expected"),
    [(0.1, 0.0001, (1, 1, 1)), (86400.0 * 365, 86400.0 * 365, (32767, 10922, 2**31 - 1))],
    ids=["short", "long"],
)
def test_durations_beyond_the_kernels(sock, keepalive, user_timeout, expected):
    """T8: a duration that the kernel cannot have becomes the nearest that it can, instead of an error."""
    stream_options.tune(sock, keepalive, user_timeout)
    names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, stream_options.TCP_USER_TIMEOUT)
    assert tuple(option(sock, name) for name in names) == expected


def test_accepted_sockets_inherit_them(sock):
    """T8: what a listening socket was tuned to holds for what it accepts: no system call a connection."""
    stream_options.tune(sock, 60.0, 20.0)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    with connect(where(sock)):
        accepted, _ = sock.accept()
        with accepted:
            names = (socket.TCP_NODELAY, socket.TCP_KEEPIDLE, stream_options.TCP_USER_TIMEOUT)
            assert [option(accepted, name) for name in names] == [1, 60, 20_000]
