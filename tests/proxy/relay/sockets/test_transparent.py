"""The stock of transparent sockets, and what becomes of clients while it is empty."""

import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.relay.plan import UdpPlan
from proxy.relay.proxy_header.header import build
from proxy.relay.sockets.transparent import LOT, STOCK, EmptyStockError, Stock
from tests.proxy.relay.conftest import TCP, eventually
from tests.proxy.relay.streams import RESET, connect, listen, read
from tests.proxy.relay.udp.test_sessions import Peers, peers

__all__ = ["peers"]

KIND = (int(socket.AF_INET), int(socket.SOCK_STREAM))


def socks(count, kind=socket.SOCK_STREAM, family=socket.AF_INET):
    """Make sockets; on loopback, where every address is ours, any is as good as a transparent one."""
    return [socket.socket(family, kind | socket.SOCK_NONBLOCK) for _ in range(count)]


def test_a_stock_is_filled_up_while_it_is_not_empty():
    """T23: all is asked for at first; then each lot that was taken is, and never more than the stock holds is under way."""
    asked = []
    stock = Stock(lambda *want: asked.append(want))
    stock.keep(KIND)
    assert asked == [(*KIND, LOT)] * (STOCK // LOT)
    stock.keep(KIND)
    assert len(asked) == STOCK // LOT
    for _ in range(STOCK // LOT):
        stock.put(KIND, LOT, socks(LOT))
    asked.clear()
    for number in range(1, STOCK + 1):
        stock.take(KIND).close()
        assert len(asked) == number // LOT
    with pytest.raises(EmptyStockError):
        stock.take(KIND)
    assert len(asked) == STOCK // LOT


def test_fewer_than_asked_for_are_asked_for_again():
    """T20, T23: where the master could not make all, the rest is asked for when the next one is taken."""
    asked = []
    stock = Stock(lambda *want: asked.append(want))
    stock.keep(KIND)
    for _ in range(STOCK // LOT):
        stock.put(KIND, LOT, socks(1))
    asked.clear()
    stock.take(KIND).close()
    assert len(asked) == (STOCK - STOCK // LOT) // LOT
    stock.close()


def start(relay, backend, transport, **changes):
    """Begin to relay to a backend as the client; where the service listens."""
    where = relay.service([backend], transports=(transport,), transparent=True, **changes)
    relay.start()
    return where


def put(relay, kind, family=socket.AF_INET):
    """Answer what the relay has asked for, with a few sockets."""
    relay.call(lambda: relay.engine.prepared(family, kind, LOT, socks(8, kind, family)))


def test_a_connection_waits_for_a_socket(relay):
    """T23: a client is connected, from its own address, when the stock is filled; until then it waits, counted."""
    with listen() as backend:
        where = start(relay, backend.getsockname()[:2], "tcp")
        with connect(where) as client:
            eventually(lambda: relay.counter("no_transparent_socket") >= 1)
            put(relay, socket.SOCK_STREAM)
            server, peer = backend.accept()
            server.close()
            assert peer[0] == client.getsockname()[0]  # its port is its own socket's, on the same host here
        assert relay.hints == []


def test_a_stock_that_stays_empty(relay):
    """T10, T23: without any socket the client is reset after connect-timeout; no backend is blamed."""
    with listen() as backend:
        where = start(relay, backend.getsockname()[:2], "tcp", tcp=replace(TCP, connect_timeout=0.2))
        with connect(where) as client:
            assert read(client) == (b"", RESET)
        assert relay.backend(backend.getsockname()[:2], "connect_unreachable") == 0
        assert relay.counter("no_local_port") == 0


@pytest.mark.parametrize("each", [False, True])
def test_a_datagram_without_a_socket(relay, peers: Peers, each):
    """T23: a datagram that finds the stock empty is dropped and counted, and the next one finds a socket."""
    server = peers.server()
    udp = UdpPlan(idle_timeout=30.0, max_sessions=10, when_full="drop-new", per_datagram=each)
    client = peers.client(start(relay, server.address, "udp", udp=udp), "127.0.0.7")
    client.send(b"lost")
    eventually(lambda: relay.counter("no_transparent_socket") >= 1)
    put(relay, socket.SOCK_DGRAM)
    client.send(b"found")
    data, peer = server.get()
    assert data == b"found"
    assert peer[0] == "127.0.0.7"
    assert relay.hints == []


def test_a_client_of_the_other_family(relay):
    """T22, T23: a client of whom a PROXY header tells, and whose family is not the backend's, is refused as our fault."""
    with listen() as backend:
        where = start(
            relay,
            backend.getsockname()[:2],
            "tcp",
            accept_proxy=("127.0.0.1/32",),
            tcp=replace(TCP, connect_timeout=0.2),
        )
        put(relay, socket.SOCK_STREAM)
        with connect(where) as client:
            client.sendall(b"PROXY TCP6 2001:db8::7 2001:db8::8 1 2\r\n")
            assert read(client) == (b"", RESET)
        assert relay.counter("no_source_address") >= 1


def test_a_client_whose_address_is_no_good(relay):
    """T23: a client whose address cannot be had, as a link-local one without its interface, is refused as our fault."""
    with listen("::1") as backend:
        where = start(
            relay,
            backend.getsockname()[:2],
            "tcp",
            address="::1",
            accept_proxy=("::1/128",),
            tcp=replace(TCP, connect_timeout=0.2),
        )
        put(relay, socket.SOCK_STREAM, socket.AF_INET6)
        with connect(where) as client:
            client.sendall(b"PROXY TCP6 fe80::7 2001:db8::8 1 2\r\n")
            assert read(client) == (b"", RESET)
        assert relay.counter("no_source_address") >= 1
        assert relay.backend(backend.getsockname()[:2], "connect_unreachable") == 0
        assert relay.hints == []


@pytest.mark.parametrize("each", [False, True])
def test_a_datagram_whose_address_is_no_good(relay, peers: Peers, each):
    """T23: the same of datagrams, which are dropped and counted, and the next client's arrives."""
    server = peers.server("::1")
    udp = UdpPlan(idle_timeout=30.0, max_sessions=10, when_full="drop-new", per_datagram=each)
    where = start(relay, server.address, "udp", address="::1", accept_proxy=("::1/128",), udp=udp)
    put(relay, socket.SOCK_DGRAM, socket.AF_INET6)
    client = peers.client(where)
    client.send(build("v2", ("fe80::7", 9), ("2001:db8::8", 9), datagram=True) + b"lost")
    eventually(lambda: relay.counter("no_source_address") == 1)
    client.send(build("v2", ("::1", 9), ("2001:db8::8", 9), datagram=True) + b"found")
    assert server.get()[0] == b"found"
    assert relay.backend(server.address, "send_failed") == 0
    assert relay.hints == []


@pytest.mark.parametrize("each", [False, True])
def test_a_datagram_of_the_other_family(relay, peers: Peers, each):
    """T22, T23: a datagram whose client is of another family than the backend is dropped, not sent from our address."""
    server = peers.server("::1")
    udp = UdpPlan(idle_timeout=30.0, max_sessions=10, when_full="drop-new", per_datagram=each)
    where = start(relay, server.address, "udp", address="::1", accept_proxy=("::1/128",), udp=udp)
    put(relay, socket.SOCK_DGRAM, socket.AF_INET6)
    peers.client(where).send(build("v2", ("192.0.2.7", 9), ("192.0.2.8", 9), datagram=True) + b"x")
    eventually(lambda: relay.counter("no_source_address") >= 1)
    assert server.silent()
    assert relay.hints == []


SCRIPT = """
import socket, sys
from dataclasses import replace
sys.path.insert(0, {root!r})
from proxy.relay.sockets.address import sockaddr
from proxy.relay.plan import UdpPlan
from tests.proxy.relay.conftest import TCP, Relay, eventually
from tests.proxy.relay.sockets.test_transparent import put
HERE = "fe80::7%d0"
EACH = UdpPlan(idle_timeout=30.0, max_sessions=10, when_full="drop-new", per_datagram=True)
def server(kind, where=HERE):
    sock = socket.socket(socket.AF_INET6, kind)
    sock.bind(sockaddr(where, 0))
    sock.settimeout(3)
    return sock
def client(kind, port):
    sock = socket.socket(socket.AF_INET6, kind)
    sock.settimeout(3)
    sock.connect(sockaddr(HERE, port))
    return sock
relay = Relay()
stream, datagram, far, away = (server(*one) for one in (
    (socket.SOCK_STREAM,), (socket.SOCK_DGRAM,), (socket.SOCK_STREAM, "::1"), (socket.SOCK_DGRAM, "::1")))
stream.listen()
far.listen()
def service(port, backend, where=HERE, **changes):
    relay.service([(where, backend.getsockname()[1])], address=HERE, port=port, transparent=True, **changes)
service(5001, stream)
service(5002, datagram, transports=("udp",))
service(5003, datagram, transports=("udp",), udp=EACH)
service(5004, far, "::1", tcp=replace(TCP, connect_timeout=0.2))
service(5005, away, "::1", transports=("udp",))
service(5006, away, "::1", transports=("udp",), udp=EACH)
relay.start()
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    for _ in range(8):
        put(relay, kind, socket.AF_INET6)
with client(socket.SOCK_STREAM, 5001):
    two, source = stream.accept()
    two.close()
    assert (source[0], source[3]) == ("fe80::7", socket.if_nametoindex("d0"))
for port in (5002, 5003):
    with client(socket.SOCK_DGRAM, port) as one:
        one.send(b"question")
        data, source = datagram.recvfrom(100)
        assert (data, source[0]) == (b"question", "fe80::7")
print("as the client")
with client(socket.SOCK_STREAM, 5004) as one:
    try:
        assert one.recv(1) == b"", "it was connected"
    except ConnectionResetError:
        pass
for port in (5005, 5006):
    with client(socket.SOCK_DGRAM, port) as one:
        one.send(b"question")
        eventually(lambda: relay.counter("no_source_address", port - 5001) >= 1)
assert relay.counter("no_source_address", 3) >= 1
assert relay.hints == [], relay.hints
relay.close()
print("nobody to blame")
"""


def test_link_local_clients():
    """T23: a link-local client is itself to a backend on its link; one that is not on it is not blamed."""
    setup = "ip link set lo up && ip link add d0 type veth peer name d1 && ip link set d1 up && ip link set d0 up"
    setup += " && ip addr add fe80::7/64 dev d0 nodad"
    done = subprocess.run(
        ["unshare", "-rn", "sh", "-c", f'{setup} && exec "$0" -c "$1"', sys.executable,
         SCRIPT.format(root=str(Path(__file__).parents[3]))],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.split("\n")[:2] == ["as the client", "nobody to blame"], done.stderr
