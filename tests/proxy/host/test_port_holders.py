"""Tests of who holds a port, with real sockets."""

import os
import socket
import subprocess
import sys

import pytest

from proxy.host import port_holders as module
from proxy.host.port_holders import holder, holders

ME = f"(pid {os.getpid()})"


def held(kind, address):
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    if ":" in address:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((address, 0))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock


@pytest.mark.parametrize(("kind", "transport"), [(socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")])
@pytest.mark.parametrize(
    ("bound", "asked", "found"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "::1", False),
        ("0.0.0.0", "127.0.0.1", True),
        ("0.0.0.0", "::1", False),
        ("::1", "::1", True),
        ("::1", "::", True),
        ("::", "::1", True),
        ("::1", "0.0.0.0", False),
    ],
)
def test_who_is_in_the_way(kind, transport, bound, asked, found):
    """R11: the holder of an address, or of a wildcard over it, is named; who is not in the way is not."""
    with held(kind, bound) as sock:
        answer = holder(transport, asked, sock.getsockname()[1])
    assert (answer is not None and ME in answer) == found


def test_one_socket_for_both_families():
    """A socket that takes IPv4 beside IPv6 is in the way of IPv4."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", 0))
        assert ME in (holder("udp", "127.0.0.1", sock.getsockname()[1]) or "")


def test_another_process_is_named():
    """The name is that of what runs, not that of its interpreter."""
    script = "import socket,sys; s=socket.create_server(('127.0.0.1',0)); print(s.getsockname()[1],flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, text=True) as process:
        port = int(process.stdout.readline())
        found = holders({("tcp", "127.0.0.1", port), ("udp", "127.0.0.1", port)})
        process.stdin.close()
        process.wait()
    assert list(found) == [("tcp", "127.0.0.1", port)]
    assert f"(pid {process.pid})" in found["tcp", "127.0.0.1", port]
    assert "python" in found["tcp", "127.0.0.1", port]


def test_one_that_cannot_be_seen(monkeypatch):
    """A holder whose descriptors are hidden from us is still told of, and the search is bounded."""
    with held(socket.SOCK_DGRAM, "127.0.0.1") as sock:
        monkeypatch.setattr(module, "LOOKED_AT", 0)
        monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
        assert holder("udp", "127.0.0.1", sock.getsockname()[1]) == "a process that only root can see"


def test_nobody():
    """A port that nobody holds has no holder."""
    with held(socket.SOCK_DGRAM, "127.0.0.1") as sock:
        port = sock.getsockname()[1]
    assert holder("udp", "127.0.0.1", port) is None
