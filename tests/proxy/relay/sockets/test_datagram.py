"""Whose address a datagram of a transparent socket has."""

import socket

from proxy.relay.sockets import datagram


def test_whose_address_a_datagram_has():
    """T23, U11: a transparent socket sends from the client's address, from a link-local one by the client's interface."""
    assert datagram.source_of(("192.0.2.1", 7, b"local"))[0][2] == bytes(4) + b"\xc0\0\2\1" + bytes(4)
    six = socket.inet_pton(socket.AF_INET6, "fe80::7")
    assert datagram.source_of(("fe80::7", 7, 0, 3))[0][2] == six + b"\3\0\0\0"
    assert datagram.source_of(("fe80::7", 7))[0][2] == six + bytes(4)
