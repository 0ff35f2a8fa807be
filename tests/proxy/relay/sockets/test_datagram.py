"""Listening sockets tell where a datagram came from and where it was sent to, and answer from there."""

import socket

import pytest

from proxy.relay.sockets import datagram
from proxy.relay.sockets.datagram import endpoint, prepare


def listening(address):
    """Return a prepared socket at a free port of `address`, and the port."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    prepare(sock, address)
    sock.bind((address, 0))
    sock.settimeout(5)
    return sock, sock.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.5", "127.0.0.5"),
        ("0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.5"),
        ("0.0.0.0", "127.1.2.3"),
        ("::1", "::1"),
        ("::", "::1"),
    ],
)
@pytest.mark.parametrize("size", [0, 1, 60000])
def test_answers_leave_from_the_address_asked(address, asked, size):
    """U11: what arrives at any address of a listener, bound to one or to all, is answered from that address."""
    sock, port = listening(address)
    receive, reply = endpoint(sock, address)
    with sock, socket.socket(sock.family, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(bytes(size), (asked, port))
        buffer = bytearray(65535)
        got, source = receive(buffer)
        assert got == size
        assert source[1] == client.getsockname()[1]
        hash(source)
        reply(b"answer", source)
        data, where = client.recvfrom(100)
        assert (data, where[:2]) == (b"answer", (asked, port))


def test_without_a_control_message_the_route_decides():
    """U11: where the kernel does not tell which address was asked, an answer leaves all the same."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        sock.bind(("127.0.0.1", 0))
        client.settimeout(5)
        receive, reply = endpoint(sock, "0.0.0.0")
        client.sendto(b"question", sock.getsockname())
        _, source = receive(bytearray(100))
        assert source[-1] == b""
        reply(b"answer", source)
        assert client.recv(100) == b"answer"


def test_nothing_to_read():
    """Both kinds of listener tell an empty queue by BlockingIOError, as a pump expects it."""
    for address in ("127.0.0.1", "0.0.0.0"):
        sock, _ = listening(address)
        with sock:
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                endpoint(sock, address)[0](bytearray(10))


def test_an_interface_is_kept_for_link_local_only():
    """U11: an IPv4 or global IPv6 answer leaves by any interface, a link-local one (fe80::/10) by the one it came in."""
    index = b"\x03\0\0\0"
    for first, kept in ((b"\xfe\x80", True), (b"\xfe\xbf", True), (b"\xfe\xc0", False), (b"\x20\x01", False)):
        address = first + bytes(14)
        assert datagram._source(address + index) == address + (index if kept else bytes(4))
    assert datagram._source(index + b"\x7f\0\0\x05" + b"\x7f\0\0\x09") == bytes(4) + b"\x7f\0\0\x05" + bytes(4)


def test_whose_address_a_datagram_has():
    """T23, U11: a transparent socket sends from the client's address, from a link-local one by the client's interface."""
    assert datagram.source_of(("192.0.2.1", 7, b"local"))[0][2] == bytes(4) + b"\xc0\0\2\1" + bytes(4)
    six = socket.inet_pton(socket.AF_INET6, "fe80::7")
    assert datagram.source_of(("fe80::7", 7, 0, 3))[0][2] == six + b"\3\0\0\0"
    assert datagram.source_of(("fe80::7", 7))[0][2] == six + bytes(4)
