"""PROXY headers in and out, and access by the client that they name, with real sockets."""

import socket
import time
from dataclasses import replace

import pytest

from proxy.relay.proxy_header.header import SIGNATURE, build
from tests.proxy.relay import streams
from tests.proxy.relay.conftest import TCP, eventually
from tests.proxy.relay.streams import END, RESET, exactly, listen, read, reset

LOCAL = SIGNATURE + bytes.fromhex("20000000")
UNIX = SIGNATURE + bytes.fromhex("213100d8") + b"/run/app.sock".ljust(216, b"\0")
NO_PROTOCOL = SIGNATURE + bytes.fromhex("21100000")


@pytest.fixture
def ends():
    """Return a function that makes connections from either end, and close them all afterwards."""
    opened = []

    class Ends:
        def connect(self, where):
            opened.append(streams.connect(where))
            return opened[-1]

        def accept(self, backend):
            opened.append(streams.accept(backend))
            return opened[-1]

    yield Ends()
    for sock in opened:
        sock.close()


@pytest.fixture
def service(relay):
    """Return a function that makes a service with one backend, and returns its address and the backend's socket."""
    opened = []

    def make(send_proxy="off", address="127.0.0.1", **changes):
        backend = listen()
        opened.append(backend)
        where = relay.service([backend.getsockname()[:2]], address=address, **changes)
        plan = relay.services[-1]
        relay.services[-1] = replace(plan, backends=tuple(replace(one, send_proxy=send_proxy) for one in plan.backends))
        relay.start()
        return where, backend

    yield make
    for sock in opened:
        sock.close()


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_backend_is_told(ends, service, relay, version, address):
    """T22: a backend with `send-proxy` gets the addresses of the client and of the listener before the first octet."""
    where, backend = service(version, address)
    client = ends.connect(where)
    client.sendall(b"hello")
    server = ends.accept(backend)
    header = build(version, client.getsockname()[:2], where)
    assert exactly(server, len(header) + 5) == header + b"hello"
    server.sendall(b"bye")
    server.close()
    assert read(client) == (b"bye", END)
    client.close()
    eventually(lambda: relay.counter("sessions") == 0)
    assert relay.backend(backend.getsockname()[:2], "bytes_in") == 5  # T19: the header is not the client's


def test_a_silent_client_is_told_of_too(ends, service):
    """T12, T22: a server that speaks first gets the client's address at once."""
    where, backend = service("v2")
    client = ends.connect(where)
    server = ends.accept(backend)
    header = build("v2", client.getsockname()[:2], where)
    assert exactly(server, len(header)) == header


@pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.7 198.51.100.10 4711 25\r\n", None])
def test_a_listed_source_speaks_for_its_client(ends, service, header):
    """T22: the addresses in a listed source's header are passed on to the backend, whatever the two versions."""
    header = header or build("v2", ("192.0.2.7", 4711), ("198.51.100.10", 25))
    where, backend = service("v2", accept_proxy=("127.0.0.0/8",))
    client = ends.connect(where)
    client.sendall(header + b"hello")
    server = ends.accept(backend)
    told = build("v2", ("192.0.2.7", 4711), ("198.51.100.10", 25))
    assert exactly(server, len(told) + 5) == told + b"hello"


def test_a_header_that_comes_octet_by_octet(ends, service):
    """T22: a header may arrive in any number of pieces, and octets behind it in the last piece are the client's."""
    where, backend = service(accept_proxy=("127.0.0.1/32",))
    client = ends.connect(where)
    for octet in b"PROXY TCP4 192.0.2.7 198.51.100.10 4711 25\r\n":
        client.sendall(bytes([octet]))
        time.sleep(0.001)
    client.sendall(b"hello")
    assert exactly(ends.accept(backend), 5) == b"hello"


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", LOCAL, UNIX, NO_PROTOCOL], ids=range(4))
def test_a_listed_source_may_speak_for_itself(ends, service, header):
    """T22: if the header names no client, or a family that is not relayed, the peer itself is the client."""
    where, backend = service("v1", accept_proxy=("127.0.0.1/32",))
    client = ends.connect(where)
    client.sendall(header + b"x")
    told = build("v1", client.getsockname()[:2], where)
    assert exactly(ends.accept(backend), len(told) + 1) == told + b"x"


def test_an_unlisted_source_is_not_listened_to(ends, service):
    """T22: a header from a source that is not listed is passed on like any other octets."""
    where, backend = service(accept_proxy=("192.0.2.0/24",))
    client = ends.connect(where)
    client.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.10 4711 25\r\n")
    assert exactly(ends.accept(backend), 44).startswith(b"PROXY TCP4 192.0.2.7")


@pytest.mark.parametrize(
    "first", [b"EHLO me\r\n", b"PROXY TCP9\r\n", *(SIGNATURE + bytes.fromhex(one) for one in ("2111ffff", "21410000"))]
)
def test_a_listed_source_without_a_header(ends, service, relay, first):
    """T22: a listed source that sends something else is reset and counted, and no backend gets a connection."""
    where, backend = service(accept_proxy=("127.0.0.1/32",))
    client = ends.connect(where)
    client.sendall(first)
    assert read(client) == (b"", RESET)
    assert relay.counter("proxy_malformed") == 1
    backend.settimeout(0.1)
    with pytest.raises(TimeoutError):
        backend.accept()


@pytest.mark.parametrize("first", [b"", b"PROXY "])
def test_a_header_that_does_not_come(ends, service, relay, first):
    """T22: a listed source that says nothing, or begins and stops, is reset after connect-timeout and counted."""
    where, _ = service(accept_proxy=("127.0.0.1/32",), tcp=replace(TCP, connect_timeout=0.2))
    client = ends.connect(where)
    client.sendall(first)
    assert read(client) == (b"", RESET)
    assert relay.counter("proxy_timeout") == 1
    assert relay.counter("sessions") == 0


@pytest.mark.parametrize("leave", [reset, socket.socket.close])
def test_a_listed_source_that_leaves(ends, service, relay, leave):
    """T11, T22: one that leaves before its header is whole leaves nothing behind."""
    where, _ = service(accept_proxy=("127.0.0.1/32",))
    client = ends.connect(where)
    client.sendall(b"PROXY TCP4 ")
    eventually(lambda: relay.counter("sessions") == 1)
    leave(client)
    eventually(lambda: relay.counter("sessions") == 0)
    assert relay.counter("client_gone") == 1


def test_who_is_kept_out(ends, service, relay):
    """Clients that `deny` names are reset and counted, by the address in the PROXY header if there is one."""
    where, backend = service(accept_proxy=("127.0.0.1/32",), deny=("192.0.2.66/32",))
    client = ends.connect(where)
    client.sendall(build("v2", ("192.0.2.66", 1), ("198.51.100.10", 25)))
    assert read(client) == (b"", RESET)
    assert relay.counter("denied") == 1
    other = ends.connect(where)
    other.sendall(build("v2", ("192.0.2.7", 1), ("198.51.100.10", 25)) + b"hello")
    assert exactly(ends.accept(backend), 5) == b"hello"


@pytest.mark.parametrize("protocol", ["plain", "dns"])
def test_datagrams_that_are_kept_out(relay, protocol):
    """Datagrams of clients that are not allowed are dropped without an answer, and counted."""
    where = relay.service([("127.0.0.1", 9)], protocol=protocol, transports=("udp",), allow=("192.0.2.0/24",))
    relay.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0\0\0\1\0\1", where)
        eventually(lambda: relay.counter("denied") == 1)
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(100)
