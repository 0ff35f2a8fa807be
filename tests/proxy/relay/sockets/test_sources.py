"""Whence the relay connects, with real sockets."""

import errno
import socket
import struct
from collections import Counter
from dataclasses import replace

import pytest

from proxy.relay.plan import UdpPlan
from proxy.relay.sockets.sources import NoSourceError, Sources, open_datagram, open_stream
from tests.proxy.relay.conftest import TCP, eventually
from tests.proxy.relay.dnsbed import answer, ask, query
from tests.proxy.relay.streams import END, RESET, accept, connect, listen, read
from tests.proxy.relay.udp.test_sessions import Peers, exchange, peers

__all__ = ["peers"]

OURS = ("127.0.0.21", "127.0.0.22", "127.0.0.23")
NOBODYS = "192.0.2.77"
EACH = UdpPlan(idle_timeout=30.0, max_sessions=1, when_full="drop-new", per_datagram=True)


def start(relay, address, sources, **changes):
    """Begin to relay to one backend from these addresses; where the service listens."""
    where = relay.service([address], **changes)
    plan = relay.services[-1]
    relay.services[-1] = replace(plan, backends=tuple(replace(one, source_addresses=sources) for one in plan.backends))
    relay.start()
    return where


def test_addresses_take_turns():
    """Those of the backend's family come first in turn, the others never."""
    sources = Sources(["10.0.0.1", "2001:db8::1", "10.0.0.2"], socket.AF_INET)
    assert [sources.turn() for _ in range(3)] == [
        ["10.0.0.1", "10.0.0.2"],
        ["10.0.0.2", "10.0.0.1"],
        ["10.0.0.1", "10.0.0.2"],
    ]
    assert Sources(["10.0.0.1", "2001:db8::1"], socket.AF_INET6).turn() == ["2001:db8::1"]
    assert not Sources(["10.0.0.1"], socket.AF_INET6)


def test_connections_take_turns(relay):
    """TCP connections come from the addresses in turn; one that the host does not have is passed over, uncounted."""
    with listen() as backend:
        where = start(relay, backend.getsockname()[:2], (OURS[0], NOBODYS, *OURS[1:]))
        seen = Counter()
        for _ in range(12):
            client = connect(where)
            server = accept(backend)
            seen[server.getpeername()[0]] += 1
            server.close()
            assert read(client) == (b"", END)
            client.close()
    assert set(seen) == set(OURS)
    assert max(seen.values()) <= 6
    assert relay.counter("no_source_address") == 0


def one_port(sock):
    """Let a socket have a single local port (IP_LOCAL_PORT_RANGE, linux/in.h, since Linux 6.3)."""
    try:
        sock.setsockopt(socket.IPPROTO_IP, 51, struct.pack("=I", 40123 << 16 | 40123))
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        pytest.skip("this kernel cannot restrict a socket's local ports")


def test_each_address_has_ports_of_its_own():
    """T19: a local port serves for several backends at once, as it is chosen when the connection is made; then it runs out."""
    with listen() as one, listen() as two:
        made = []
        for address, backend in ((OURS[0], one), (OURS[0], two), (OURS[1], one)):
            sock, result = open_stream(
                Sources([address], socket.AF_INET), socket.AF_INET, one_port, backend.getsockname()
            )
            assert result == errno.EINPROGRESS
            made.append(sock)
        assert [sock.getsockname() for sock in made] == [(OURS[0], 40123)] * 2 + [(OURS[1], 40123)]
        with pytest.raises(OSError, match="Cannot assign") as caught:
            open_stream(Sources(OURS[:2], socket.AF_INET), socket.AF_INET, one_port, one.getsockname())
        assert not isinstance(caught.value, NoSourceError)  # the ports have run out, the addresses are there
        for sock in made:
            sock.close()


def test_a_source_that_the_host_does_not_have_is_our_fault(relay):
    """A host with none of the addresses resets the client after connect-timeout, counts it, and blames no backend."""
    with listen() as backend:
        address = backend.getsockname()[:2]
        where = start(relay, address, (NOBODYS,), tcp=replace(TCP, connect_timeout=0.2))
        with connect(where) as client:
            assert read(client) == (b"", RESET)
        assert relay.counter("no_source_address") >= 2
        assert relay.counter("no_local_port") == 0
        assert relay.counter("refused_no_backend") == 1
        assert relay.backend(address, "connect_unreachable") == 0
        assert relay.hints == []


def two_backends(relay, good, **changes):
    """Begin to relay to a backend that cannot be had from this host, else to this one; where the service listens."""
    where = relay.service([("127.0.0.1", 9), good], scheduler="failover", **changes)
    plan = relay.services[-1]
    first, second = plan.backends
    backends = (replace(first, source_addresses=(NOBODYS,), weight=9), replace(second, source_addresses=OURS))
    relay.services[-1] = replace(plan, backends=backends)
    relay.start()
    return where


def test_another_backend_may_have_an_address(relay):
    """T9: a backend whose addresses are ours serves in place of one whose address is not."""
    with listen() as backend:
        where = two_backends(relay, backend.getsockname()[:2])
        with connect(where), accept(backend) as server:
            assert server.getpeername()[0] in OURS
        assert relay.counter("no_source_address") == 1


@pytest.mark.parametrize("udp", [None, EACH])
def test_another_backend_may_have_an_address_for_datagrams(relay, peers: Peers, udp):
    """The same of UDP."""
    server = peers.server()
    where = two_backends(relay, server.address, transports=("udp",), **({"udp": udp} if udp else {}))
    peers.client(where).send(b"x")
    assert server.get()[1][0] in OURS
    assert relay.counter("no_source_address") == 1


@pytest.mark.parametrize("udp", [None, EACH])
def test_datagrams_come_from_them(relay, peers: Peers, udp):
    """UDP sessions take turns; the one socket of per-datagram has one of the addresses; each from a random port."""
    server = peers.server()
    changes = {"udp": udp} if udp else {}
    where = start(relay, server.address, OURS, transports=("udp",), **changes)
    seen = set()
    for _ in range(6):
        if udp:
            peers.client(where).send(b"x")
            seen.add(server.get()[1][0])
        else:
            seen.add(exchange(peers.client(where), server)[0])
    assert seen <= set(OURS)
    assert len(seen) == (1 if udp else 3)


@pytest.mark.parametrize("udp", [None, EACH])
def test_datagrams_without_a_source(relay, peers: Peers, udp):
    """UDP without any address that is ours is dropped and counted as our fault, and blames no backend."""
    server = peers.server()
    changes = {"udp": udp} if udp else {}
    where = start(relay, server.address, (NOBODYS,), transports=("udp",), **changes)
    peers.client(where).send(b"x")
    eventually(lambda: relay.counter("no_source_address") >= 1)
    assert server.silent()
    assert relay.backend(server.address, "send_failed") == 0
    assert relay.hints == []


def test_queries_come_from_them(relay, peers: Peers):
    """The sockets of DNS queries take turns; without an address the client gets SERVFAIL, and no backend is blamed."""
    server = peers.server()
    where = start(relay, server.address, OURS, transports=("udp",), protocol="dns")
    seen = set()
    client = peers.client(where)
    for number in range(60):
        client.send(query("www.example.net", number))
        data, source = server.get()
        seen.add(source[0])
        server.sock.sendto(answer(data), source)
        client.recv(1000)
    assert seen == set(OURS)


def test_queries_without_a_source(relay, peers: Peers):
    """U9: a query that can be sent from nowhere is answered with SERVFAIL by give-up, and counted as our fault."""
    server = peers.server()
    where = start(relay, server.address, (NOBODYS,), transports=("udp",), protocol="dns")
    assert ask(where, query())[3] & 15 == 2
    assert relay.counter("no_source_address") >= 1
    assert relay.backend(server.address, "send_failed") == 0


def test_ipv6(relay, peers: Peers):
    """An IPv6 backend is asked from the IPv6 address among them."""
    server = peers.server("::1")
    where = start(relay, server.address, (*OURS, "::1"), transports=("udp",))
    assert exchange(peers.client(where), server)[0] == "::1"


def test_what_else_fails_is_no_missing_address():
    """Another error than a missing address is raised as it is."""

    def refused(_):
        raise OSError(errno.EMFILE, "files")

    with pytest.raises(OSError, match="files"):
        open_datagram(Sources([OURS[0]], socket.AF_INET), refused)
