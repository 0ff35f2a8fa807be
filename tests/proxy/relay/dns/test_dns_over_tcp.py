"""DNS over TCP is the plain byte relay: whatever RFC 7766 lets client and server do with their stream passes."""

import os
import socket
import struct
import threading

import pytest

from proxy.relay.plan import DnsPlan
from tests.proxy.relay.conftest import eventually, free_port
from tests.proxy.relay.dnsbed import Server, answer, ask, query
from tests.proxy.relay.streams import connections


def frame(message):
    """Return a message as it travels over TCP (RFC 1035, section 4.2.2)."""
    return struct.pack(">H", len(message)) + message


def exactly(sock, size):
    """Read this many octets."""
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        assert part, f"the stream ended after {len(data)} of {size} octets"
        data += part
    return data


def message_from(sock):
    """Read one message."""
    return exactly(sock, struct.unpack(">H", exactly(sock, 2))[0])


@pytest.fixture
def stream(relay):
    """A client's connection through the relay and the backend's end of it."""
    with socket.create_server(("127.0.0.1", 0)) as backend:
        backend.settimeout(5)
        where = relay.service([backend.getsockname()], protocol="dns", transports=("udp", "tcp"))
        relay.start()
        with socket.create_connection(where, 5) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            served, _ = backend.accept()
            served.settimeout(5)
            with served:
                yield client, served


def test_one_octet_a_segment(stream):
    """U16: a query and its answer that come octet by octet arrive whole."""
    client, server = stream
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for octet in frame(query(ident=1)):
        client.send(bytes([octet]))
    assert message_from(server) == query(ident=1)
    for octet in frame(answer(query(ident=1))):
        server.send(bytes([octet]))
    assert message_from(client) == answer(query(ident=1))


def test_pipelining_and_answers_out_of_order(stream):
    """U16: a hundred queries sent without waiting are answered last first, each as the server wrote it."""
    client, server = stream
    asked = [query(f"h{number}.example.net", number) for number in range(100)]
    client.sendall(b"".join(map(frame, asked)))
    assert [message_from(server) for _ in asked] == asked
    for message in reversed(asked):
        server.sendall(frame(answer(message, b"data")))
    assert [message_from(client) for _ in asked] == [answer(message, b"data") for message in reversed(asked)]


def test_the_largest_message(stream):
    """U16: messages of 65,535 octets pass both ways, several at once."""
    client, server = stream
    largest = [os.urandom(65535) for _ in range(5)]
    for one, other in ((client, server), (server, client)):
        sender = threading.Thread(target=one.sendall, args=(b"".join(map(frame, largest)),))
        sender.start()
        assert [message_from(other) for _ in largest] == largest
        sender.join(5)


def test_a_zone_transfer(relay, stream):
    """U16: 1,000 messages to a client that has closed its half already, and reads late, arrive whole, then the end."""
    client, server = stream
    client.sendall(frame(query("example.net", 7, kind=252)))
    client.shutdown(socket.SHUT_WR)
    asked = message_from(server)
    assert server.recv(1) == b""
    messages = [answer(asked, os.urandom(8000)) for _ in range(1000)]

    def serve():
        for message in messages:
            server.sendall(frame(message))
        server.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=serve)
    sender.start()
    eventually(lambda: connections(relay)[0].waiting[0])
    assert [message_from(client) for _ in messages] == messages
    assert client.recv(1) == b""
    sender.join(5)


def test_the_retry_of_a_truncated_answer(relay):
    """U4: TC=1 reaches the client over UDP, and its query over TCP to the same address gets the whole answer."""
    udp = Server(lambda message: answer(message)[:2] + b"\x83\0" + answer(message)[4:], port=free_port())
    with socket.create_server(udp.address) as tcp:
        tcp.settimeout(5)
        where = relay.service([udp.address], protocol="dns", transports=("udp", "tcp"), dns=DnsPlan(1.0, 4.0))
        relay.start()
        assert ask(where, query(ident=3))[2] & 0x02
        with socket.create_connection(where, 5) as client:
            client.sendall(frame(query(ident=3)))
            server, _ = tcp.accept()
            with server:
                server.sendall(frame(answer(message_from(server), bytes(5000))))
                assert message_from(client) == answer(query(ident=3), bytes(5000))
    udp.close()
