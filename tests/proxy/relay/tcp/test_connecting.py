"""Choosing and connecting a backend for a TCP connection, with real sockets on both sides."""

import socket
import threading
import time
from dataclasses import replace

import pytest

from tests.proxy.relay.conftest import TCP, eventually, free_port
from tests.proxy.relay.streams import (
    END,
    RESET,
    Wire,
    accept,
    connect,
    connecting_to,
    deaf,
    descriptors,
    exactly,
    listen,
    read,
    reset,
    settle,
    where,
)


def resetting(listener: socket.socket, greeting: bytes = b"", wants: int = 0) -> None:
    """Accept one connection, read `wants` octets, send `greeting`, and reset it."""
    sock = accept(listener)
    exactly(sock, wants)
    sock.sendall(greeting)
    settle(sock)
    reset(sock)


@pytest.mark.parametrize("how", ["refused", "timeout", "reset"])
def test_a_failed_connect_is_retried(relay, how):
    """T9: if a backend refuses, resets or does not answer a connect, another is tried, and the client does not notice."""
    with listen() as good, deaf() as (silent, _), listen() as bad:
        first = {"refused": ("127.0.0.1", free_port()), "timeout": silent, "reset": where(bad)}[how]
        timers = replace(TCP, connect_timeout=0.2)
        address = relay.service([first, where(good)], scheduler="failover", tcp=timers)
        relay.start()
        if how == "reset":
            threading.Thread(target=resetting, args=(bad,)).start()
        with connect(address) as client, accept(good) as backend:
            backend.sendall(b"hello")
            assert exactly(client, 5) == b"hello"
            client.sendall(b"thanks")
            assert exactly(backend, 6) == b"thanks"
            assert relay.backend(first, f"connect_{how}") == 1
            assert relay.backend(first, "active") == 0
            assert relay.backend(where(good), "active") == 1
            assert relay.counter("retries") == 1
            assert relay.hints == [(0, 0)]


@pytest.mark.parametrize(("greeting", "wants"), [(b"", 3), (b"busy", 0)], ids=["client's octets", "backend's octets"])
def test_no_retry_after_an_octet(relay, greeting, wants):
    """T9: once an octet has passed, to the backend or from it, a reset is the client's and no other backend is tried."""
    with listen() as bad, listen() as good:
        address = relay.service([where(bad), where(good)], scheduler="failover")
        relay.start()
        server = threading.Thread(target=resetting, args=(bad, greeting, wants))
        with connect(address) as client:
            server.start()
            if wants:  # a send of nothing would take the reset that may be there already
                client.sendall(b"abc"[:wants])
            assert read(client) == (greeting, RESET)
        server.join(5)
        eventually(lambda: relay.counter("sessions") == 0)
        assert relay.backend(where(good), "total") == 0
        assert relay.counter("retries") == 0
        assert relay.backend(where(bad), "reset") == 1


def outcome(address: tuple[str, int]) -> tuple[bytes, str]:
    """What a client gets that only connects and reads; an RST may come before it has noticed that it is connected."""
    try:
        with connect(address) as client:
            return read(client)
    except ConnectionResetError:
        return b"", RESET


def test_every_backend_down(relay):
    """T10: with every backend down a client gets an RST at once, and is counted."""
    with listen() as backend:
        address = relay.service([where(backend)])
        relay.start()
        relay.verdict(where(backend), "down")
        began = time.monotonic()
        assert outcome(address) == (b"", RESET)
        assert time.monotonic() - began < 0.3
        eventually(lambda: relay.counter("sessions") == 0)
        assert relay.counter("refused_no_backend") == 1


def test_every_backend_refuses(relay):
    """T10: when every backend refuses, each has been tried once and the client gets an RST."""
    closed = [("127.0.0.1", free_port()) for _ in range(3)]
    address = relay.service(closed)
    relay.start()
    assert outcome(address) == (b"", RESET)
    eventually(lambda: relay.counter("sessions") == 0)
    assert [relay.backend(one, "connect_refused") for one in closed] == [1, 1, 1]
    assert [relay.backend(one, "active") for one in closed] == [0, 0, 0]
    assert relay.counter("refused_no_backend") == 1


@pytest.mark.parametrize("leave", [reset, socket.socket.close], ids=["RST", "FIN"])
def test_client_leaves_while_we_connect(relay, leave):
    """T11: a client that leaves during the connect takes the attempt with it: no socket, no descriptor, no gauge stays."""
    with deaf() as (silent, _):
        address = relay.service([silent], tcp=replace(TCP, connect_timeout=20))
        relay.start()
        before, fillers = descriptors(), connecting_to(silent[1])
        client = connect(address)
        eventually(lambda: connecting_to(silent[1]) == fillers + 1)
        assert relay.backend(silent, "active") == 1
        leave(client)
        eventually(lambda: relay.counter("sessions") == 0, 0.3 if leave is reset else 1)
        assert connecting_to(silent[1]) == fillers
        assert relay.backend(silent, "active") == 0
        assert relay.counter("client_gone") == 1
        assert relay.backend(silent, "connect_timeout") == 0
        assert descriptors() == before


def test_client_that_left_is_given_up_on_the_next_backend_too(relay):
    """T11: the short wait for a client that sent only a FIN does not begin again with each backend that is tried."""
    with deaf() as (one, _), deaf() as (two, _):
        address = relay.service([one, two], scheduler="failover", tcp=replace(TCP, connect_timeout=0.4))
        relay.start()
        connect(address).close()
        began = time.monotonic()
        eventually(lambda: relay.counter("client_gone") == 1, 2)
        assert time.monotonic() - began < 0.7


def test_octets_before_the_connect(relay):
    """T13: octets and a FIN that the client sends during the connect arrive in order at the backend that answers."""
    with deaf() as (silent, _), listen() as good:
        address = relay.service([silent, where(good)], scheduler="failover", tcp=replace(TCP, connect_timeout=0.3))
        relay.start()
        with connect(address) as client:
            for piece in (b"one ", b"two ", b"three"):
                client.sendall(piece)
                time.sleep(0.03)
            client.shutdown(socket.SHUT_WR)
            with accept(good) as backend:
                assert read(backend) == (b"one two three", END)
                backend.sendall(b"yes")
            assert read(client) == (b"yes", END)


def test_ipv6(relay):
    """T1: IPv6 on both sides, as IPv4."""
    wire = Wire(relay, host="::1")
    relay.start()
    client, backend = wire.open()
    client.sendall(b"x")
    client.shutdown(socket.SHUT_WR)
    assert read(backend) == (b"x", END)
    wire.close()
    wire.over()
