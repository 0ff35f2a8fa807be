"""Datagrams balanced one by one, over real sockets."""

import socket
from dataclasses import replace

import pytest

from proxy.relay.plan import UdpPlan
from proxy.relay.proxy_header.header import build
from proxy.relay.target import ATTEMPTS
from proxy.relay.udp import closed_ports
from tests.proxy.relay.conftest import eventually
from tests.proxy.relay.streams import descriptors
from tests.proxy.relay.udp.test_sessions import Server, held, peers, silent

__all__ = ["peers"]

PLAN = UdpPlan(idle_timeout=30.0, max_sessions=1, when_full="drop-new", per_datagram=True)


def start(relay, *servers, **more):
    """Begin to relay to these servers; where the service listens."""
    where = relay.service([server.address for server in servers], transports=("udp",), **{"udp": PLAN, **more})
    relay.start()
    return where


def outlets(relay):
    """Return the sockets to backends."""
    return relay.call(lambda: [one for one in relay.engine._relays[0, "udp"]._outlets.values() if one.fileno() >= 0])


def test_each_datagram_is_balanced_by_itself(relay, peers):
    """One client's datagrams go to the backends in turn, whole, from one socket each; no session is kept."""
    servers = [peers.server(), peers.server()]
    where = start(relay, *servers)
    client, other = peers.client(where), peers.client(where)
    for number in range(20):
        (client, other)[number % 4 > 1].send(b"%d" % number)
    got = [[server.get() for _ in range(10)] for server in servers]
    assert sorted(int(data) for one in got for data, _ in one) == list(range(20))
    assert [len({source for _, source in one}) for one in got] == [1, 1]
    assert relay.counter("sessions") == relay.counter("sessions_opened") == 0
    assert relay.counter("datagrams") == 20
    eventually(lambda: [relay.backend(server.address, "total") for server in servers] == [10, 10])
    assert [relay.backend(server.address, "active") for server in servers] == [0, 0]
    assert len(outlets(relay)) == 2


@pytest.mark.parametrize("size", [0, 1, 1400, 65507])
def test_datagrams_arrive_intact(relay, peers, size):
    """U6, U12: datagrams of every size arrive byte for byte, an empty one too."""
    server = peers.server()
    client = peers.client(start(relay, server))
    data = bytes(number % 251 for number in range(size))
    client.send(data)
    assert server.get()[0] == data
    eventually(lambda: relay.backend(server.address, "bytes_in") == size)


def test_answers_are_dropped_and_counted(relay, peers):
    """What a backend sends reaches no client, is counted, and the next datagram goes on."""
    server = peers.server()
    client = peers.client(start(relay, server))
    client.send(b"one")
    _, relayed = server.get()
    for _ in range(3):
        server.sock.sendto(b"answer", relayed)
    eventually(lambda: relay.counter("unwanted_reply") == 3)
    assert silent(client)
    client.send(b"two")
    assert server.get() == (b"two", relayed)


def test_hashing_keeps_a_source_together(relay, peers):
    """With a hashing scheduler and its key, a client's datagrams go to one backend; another port may go elsewhere."""
    servers = [peers.server(), peers.server()]
    where = start(relay, *servers, scheduler="maglev", hash_on="source-port")
    for _ in range(16):
        client = peers.client(where)
        for _ in range(3):
            client.send(str(client.getsockname()[1]).encode())
    eventually(lambda: sum(relay.backend(one.address, "total") for one in servers) == 48)
    homes = [{server.get()[0] for _ in range(relay.backend(server.address, "total"))} for server in servers]
    assert all(homes)
    assert not homes[0] & homes[1]


def test_a_closed_port_is_left_for_another_backend(relay, peers):
    """U7: the datagram that meets a closed port and all after it go to the other backend, and the next probe is brought forward."""
    dead, server = peers.server(), peers.server()
    dead.close()
    client = peers.client(start(relay, dead, server))
    for number in range(12):
        client.send(b"%d" % number)
        assert server.get()[0] == b"%d" % number
    assert relay.backend(dead.address, "port_unreachable") == relay.backend(dead.address, "total") == 1
    assert relay.counter("retries") == 1
    assert relay.hints
    assert server.silent(0.05)


def test_a_refused_datagram_keeps_its_client(relay, peers):
    """U7, T22: a datagram that is sent again names its own client, however many other clients have sent since."""
    dead, server = peers.server(), peers.server()
    dead.close()
    where = relay.service([dead.address, server.address], transports=("udp",), udp=PLAN, scheduler="failover")
    backends = tuple(replace(one, send_proxy="v2") for one in relay.services[0].backends)
    relay.services[0] = replace(relay.services[0], backends=backends)
    relay.start()
    one, two = peers.client(where), peers.client(where)
    with held(relay):
        one.send(b"one")
        two.send(b"two")
    got = {server.get()[0] for _ in range(2)}
    assert got == {
        build("v2", sock.getsockname(), where, datagram=True) + data for sock, data in ((one, b"one"), (two, b"two"))
    }


def test_closed_ports_are_offered_a_datagram_once(relay, peers):
    """U7: with every port closed a datagram goes to few backends, once to each, and is gone then."""
    servers = [peers.server() for _ in range(ATTEMPTS + 2)]
    client = peers.client(start(relay, *servers))
    for server in servers:
        server.close()
    client.send(b"refused by all")
    eventually(lambda: sum(relay.backend(one.address, "port_unreachable") for one in servers) == ATTEMPTS)
    eventually(lambda: not relay.call(lambda: relay.engine._relays[0, "udp"]._lost))
    assert max(relay.backend(one.address, "total") for one in servers) == 1


def test_a_closed_port_is_tried_again(relay, peers, monkeypatch):
    """A lone backend whose port was closed gets the next datagram as soon as it is open again."""
    monkeypatch.setattr(closed_ports, "CLOSED_PAUSE", 0.05)
    server = Server()
    client = peers.client(start(relay, server))
    server.close()
    client.send(b"lost")
    eventually(lambda: relay.backend(server.address, "port_unreachable") == 1)
    again = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peers.socks.append(again)
    again.bind(server.address)
    again.settimeout(3)
    client.send(b"found")
    assert again.recv(100) == b"found"


def test_no_backend(relay, peers):
    """Datagrams without a usable backend are dropped and counted; those of port 0 or kept out as well."""
    server = peers.server()
    client = peers.client(start(relay, server))
    relay.verdict(server.address, "down")
    client.send(b"x")
    eventually(lambda: relay.counter("refused_no_backend") == 1)
    relay.verdict(server.address, "up")
    client.send(b"y")
    assert server.get()[0] == b"y"


def test_who_is_kept_out(relay, peers):
    """Datagrams of clients that `deny` names reach no backend and are counted."""
    server = peers.server()
    client = peers.client(start(relay, server, deny=("127.0.0.0/8",)))
    client.send(b"x")
    eventually(lambda: relay.counter("denied") == 1)
    assert server.silent()


def test_sockets_are_replaced(relay, peers):
    """U8: a socket is replaced when its minute is over, and when its backend comes back; never more than one is open."""
    server = peers.server()
    client = peers.client(start(relay, server))
    seen = set()

    def send():
        client.send(b"x")
        seen.add(server.get()[1])

    send()
    relay.verdict(server.address, "down")
    relay.verdict(server.address, "up")
    eventually(lambda: not outlets(relay))
    eventually(lambda: (send(), len(seen) == 2)[1])
    relay.engine._relays[0, "udp"].lifetime = 0.0
    eventually(lambda: (send(), len(seen) >= 3)[1])
    assert len(outlets(relay)) == 1
    before = descriptors()
    for _ in range(5):
        send()
    assert len(descriptors()) == len(before)


def test_the_listeners_port_where_a_backend_has_none(relay, peers):
    """A backend without a port of its own is sent to at the listener's."""
    server = Server("127.0.0.2")
    peers.socks.append(server.sock)
    where = relay.service([server.address], transports=("udp",), udp=PLAN, port=server.address[1])
    relay.services[0] = replace(relay.services[0], backends=(replace(relay.services[0].backends[0], port=None),))
    relay.start()
    peers.client(where).send(b"x")
    assert server.get()[0] == b"x"


def test_a_refusal_is_an_earlier_datagrams(relay, peers):
    """A lone backend's refusal is noticed with the next datagram, which is sent all the same."""
    server = peers.server()
    client = peers.client(start(relay, server))
    server.close()
    with held(relay):
        client.send(b"one")
        client.send(b"two")
    eventually(lambda: relay.backend(server.address, "total") == 2)
    assert relay.counter("refused_no_backend") == 0


def test_what_is_too_long_takes_no_slot(relay, peers):
    """T21, U12: a datagram that is too long with its PROXY header is dropped and counted, and takes no slot for good."""
    server = peers.server()
    where = relay.service([server.address], transports=("udp",), udp=PLAN, limit=1)
    (backend,) = relay.services[0].backends
    relay.services[0] = replace(relay.services[0], backends=(replace(backend, send_proxy="v2"),))
    relay.start()
    client = peers.client(where)
    client.send(bytes(65507))
    eventually(lambda: relay.backend(server.address, "send_failed") == 1)
    assert relay.backend(server.address, "active") == 0
    client.send(b"x")
    assert server.get()[0].endswith(b"x")
