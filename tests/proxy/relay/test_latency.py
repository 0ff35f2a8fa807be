"""least-latency, and no other scheduler, gets the times of connects and answers."""

import socket
import time

import pytest

from proxy.balance.least_latency import FAILED
from tests.proxy.relay.conftest import free_port
from tests.proxy.relay.dnsbed import Server, answer, client, query


def estimates(relay):
    """Return the estimate of each backend of the first service."""
    return relay.call(lambda: [target.estimate for target in relay.engine._services[0].targets])


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.mark.parametrize("scheduler", ["least-latency", "round-robin"])
def test_connects_are_timed(relay, listening, scheduler):
    """T9: a connect leaves an estimate of its time, a refused one that of a failure; with another scheduler there is none."""
    dead = ("127.0.0.1", free_port())
    address = relay.service([listening.getsockname(), dead], scheduler=scheduler)
    relay.start()
    for _ in range(8):
        socket.create_connection(address).close()
        listening.accept()[0].close()
    if scheduler == "round-robin":
        assert estimates(relay) == [0, 0]
        return
    alive, refused = estimates(relay)
    assert 0 < alive < 0.5
    assert refused == FAILED
    assert relay.backend(dead, "connect_refused") in {1, 2}  # the second one may come before the other has an estimate


@pytest.mark.parametrize("scheduler", ["least-latency", "round-robin"])
def test_first_answers_of_udp_sessions_are_timed(relay, scheduler):
    """U14: the time to a session's first answer counts; later datagrams of either side do not."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
    ):
        server.bind(("127.0.0.1", 0))
        address = relay.service([server.getsockname()], transports=("udp",), scheduler=scheduler)
        relay.start()
        one.settimeout(5)
        server.settimeout(5)
        one.sendto(b"?", address)
        _, session = server.recvfrom(64)
        time.sleep(0.1)
        server.sendto(b"!", session)
        one.recv(64)
        first = estimates(relay)[0]
        server.sendto(b"!", session)
        one.recv(64)
        assert estimates(relay)[0] == first
        assert (0.1 <= first < 1) if scheduler == "least-latency" else first == 0


def late_answer(message):
    time.sleep(0.05)
    return answer(message)


def test_the_slower_dns_server_is_spared(relay):
    """U9: of two servers the one that takes 50 ms longer gets a few of 60 queries; a silent one counts as slow too."""
    fast, _, silent = servers = [Server(), Server(late_answer), Server(lambda _: None)]
    where = relay.service(
        [one.address for one in servers], protocol="dns", transports=("udp",), scheduler="least-latency"
    )
    relay.start()
    with client(where) as sock:
        for number in range(60):
            sock.send(query(f"h{number}.example.net", number))
            sock.recv(512)
    assert len(fast.seen) > 45
    assert len(silent.seen) < 5
    quick, late, mute = estimates(relay)
    assert quick < late < mute
    assert late >= 0.05
    assert mute >= 0.2
    for one in servers:
        one.close()
