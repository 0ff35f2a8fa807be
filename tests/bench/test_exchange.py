"""The bench's own client, with real sockets."""

import socket
import threading

import pytest

from bench.exchange import Connect, Ldap, message_end, operation
from bench.works.ldap import searches
from health.probes.ldapmessage import search, size

DONE = bytes.fromhex("300c02010165070a010004000400")


def serve(handle, kept):
    """Return the address of a server whose connections are handled by threads."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def run():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            kept.append(sock)
            threading.Thread(target=handle, args=(sock,), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    return listener


def answer_searches(sock):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while sock.recv(4096):
        sock.sendall(DONE[:5])
        sock.sendall(DONE[5:])


def answer_and_close(sock):
    if sock.recv(4096):
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\nyes")
    sock.close()


@pytest.fixture
def server(request):
    """A server of the kind that the test names; afterwards it and its connections are closed."""
    kept = []
    listener = serve(request.param, kept)
    yield listener.getsockname()
    listener.close()
    for sock in kept:
        sock.close()


@pytest.mark.parametrize("server", [answer_searches], indirect=True)
@pytest.mark.parametrize("rate", [0, 200])
def test_searches_are_answered(server, rate):
    """Searches on kept connections each have a latency, as fast as possible and at a fixed rate."""
    client = Ldap(server, 4, rate, searches(20))
    found = client.run(0.3)
    assert found["failed"] == 0
    assert found["done"] >= 10
    assert all(0 < one < 1 for one in found["latencies"])
    if rate:
        assert len(found["latencies"]) == pytest.approx(60, abs=2)
    for link in client.links.values():
        link.sock.close()


@pytest.mark.parametrize("server", [answer_and_close], indirect=True)
@pytest.mark.parametrize("rate", [0, 100])
def test_connections_are_answered(server, rate):
    """A new connection for each request has a latency up to its end, as fast as possible and at a fixed rate."""
    client = Connect(server, 4, rate, [b"GET / HTTP/1.1\r\n\r\n"])
    found = client.run(0.3)
    assert found["failed"] == 0
    assert len(found["latencies"]) >= found["done"] > 10
    if rate:
        assert len(found["latencies"]) == pytest.approx(30, abs=2)
    assert client.links == {}


@pytest.mark.parametrize("server", [lambda sock: sock.close()], indirect=True)
def test_a_closed_connection_has_failed(server):
    """A connection that ends without an answer is counted as failed, and the run goes on."""
    found = Connect(server, 2, 50, [b"GET / HTTP/1.1\r\n\r\n"]).run(0.2)
    assert found["failed"] == pytest.approx(10, abs=2)
    assert found["done"] == 0


@pytest.mark.parametrize("server", [lambda sock: sock.recv(4096)], indirect=True)
def test_what_is_never_answered_has_failed(server, monkeypatch):
    """A search without an answer is counted as failed when the time for late answers is over."""
    monkeypatch.setattr("bench.exchange.GRACE", 0.1)
    client = Ldap(server, 2, 50, searches(20))
    assert client.run(0.2)["failed"] == pytest.approx(10, abs=2)
    for link in client.links.values():
        link.sock.close()


@pytest.mark.parametrize("condition", ["(uid=a)", f"(uid={'a' * 200})", f"(uid={'a' * 70000})"])
def test_messages_have_their_ends(condition):
    """The end of an LDAP message of any length is where ldap3 says, and its operation follows the message ID."""
    message = search(1, "dc=example,dc=net", condition, ("cn",), below=True, most=0)
    assert message_end(message, 0) == size(message) == len(message)
    assert message[operation(message, 0)] == 0x63
    assert message_end(message[:1], 0) == 0
