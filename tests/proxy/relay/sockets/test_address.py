"""Addresses as sockets take them, and a relay between link-local ones."""

import errno
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.relay.sockets.address import scope_of, sockaddr


def test_what_sockets_take():
    """An address goes on as it is, a link-local one with the number of its interface."""
    number = socket.if_nametoindex("lo")
    assert sockaddr("192.0.2.1", 53) == ("192.0.2.1", 53)
    assert sockaddr("2001:db8::1", 53) == ("2001:db8::1", 53)
    assert sockaddr("fe80::1%lo", 53) == ("fe80::1", 53, 0, number)
    assert sockaddr(f"fe80::1%{number}", 53) == ("fe80::1", 53, 0, number)


def test_the_interface_of_a_client():
    """The kernel tells an IPv6 client's interface, with or without a control message behind it; a PROXY header does not."""
    assert scope_of(("fe80::7", 1, 0, 3)) == scope_of(("fe80::7", 1, 0, 3, b"local")) == 3
    assert scope_of(("fe80::7", 1)) == scope_of(("2001:db8::7", 1, 0, 0)) == 0
    assert scope_of(("192.0.2.1", 1, b"local")) == 0


def test_an_interface_that_is_not_there():
    """A zone that names no interface is an error of the host, and nobody is asked for its name."""
    with pytest.raises(OSError, match="No such device") as told:
        sockaddr("fe80::1%nosuch0", 53)
    assert told.value.errno == errno.ENODEV


SCRIPT = """
import socket, sys
sys.path.insert(0, {root!r})
from proxy.host.port_holders import holder
from proxy.relay.sockets.address import sockaddr
from tests.proxy.relay.conftest import Relay
HERE = "fe80::7%d0"
def server(kind):
    sock = socket.socket(socket.AF_INET6, kind)
    sock.bind(sockaddr(HERE, 0))
    sock.settimeout(3)
    return sock
def client(kind, port):
    sock = socket.socket(socket.AF_INET6, kind)
    sock.settimeout(3)
    sock.connect(sockaddr(HERE, port))
    return sock
relay = Relay()
stream, datagram = server(socket.SOCK_STREAM), server(socket.SOCK_DGRAM)
stream.listen()
relay.service([(HERE, stream.getsockname()[1])], address=HERE, port=5001)
relay.service([(HERE, datagram.getsockname()[1])], transports=("udp",), address=HERE, port=5002)
relay.start()
with client(socket.SOCK_STREAM, 5001) as one, stream.accept()[0] as two:
    one.sendall(b"x")
    assert two.recv(1) == b"x"
with client(socket.SOCK_DGRAM, 5002) as one:
    one.send(b"question")
    data, source = datagram.recvfrom(100)
    datagram.sendto(b"answer", source)
    assert (data, one.recv(100)) == (b"question", b"answer")
assert "pid" in holder("tcp", HERE, 5001)
relay.close()
print("both ways")
"""


def test_link_local_listeners_and_backends():
    """Listeners and backends may have link-local addresses, TCP and UDP; in a network namespace of its own."""
    setup = "ip link set lo up && ip link add d0 type veth peer name d1 && ip link set d1 up && ip link set d0 up"
    setup += " && ip addr add fe80::7/64 dev d0 nodad"
    done = subprocess.run(
        ["unshare", "-rn", "sh", "-c", f'{setup} && exec "$0" -c "$1"', sys.executable,
         SCRIPT.format(root=str(Path(__file__).parents[3]))],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert "both ways" in done.stdout, done.stderr
