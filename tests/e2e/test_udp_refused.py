"""Clients of a UDP service that send one datagram each, while one of two servers has closed its port."""

import select
import socket
import threading

import pytest

from tests.e2e.bed import SERVICE, site
from tests.e2e.daemon import Daemon, backend_of

PORT = 5000
ENDS = b"the end"
FILE = """
[service.echo]
listen    = ["198.51.100.10:5000/udp"]
backends  = ["10.0.0.11", "10.0.0.12"]
scheduler = "round-robin"
probe     = { type = "none" }

[service.syslog]
listen    = ["198.51.100.10:5001/udp"]
backends  = ["10.0.0.11", "10.0.0.12"]
scheduler = "round-robin"
udp       = { per-datagram = true }
probe     = { type = "none" }
"""


@pytest.fixture(scope="module")
def bed():
    """A balancer in front of two hosts; the second host has no server."""
    with site(backends=2) as made:
        yield made


@pytest.fixture(scope="module")
def daemon(bed):
    """Steelyard in front of both hosts."""
    return Daemon(bed, "balancer", FILE, workers=2)


def test_clients_that_send_once(bed, daemon):
    """U7: each of twenty clients is answered, although a host reports only a few closed ports a second."""
    server = bed.socket("b1", kind=socket.SOCK_DGRAM)
    server.bind(("10.0.0.11", PORT))

    def serve():
        while (received := server.recvfrom(2000))[0] != ENDS:
            server.sendto(received[0], received[1])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        clients = [bed.socket("client", kind=socket.SOCK_DGRAM) for _ in range(20)]
        for number, client in enumerate(clients):
            client.connect((SERVICE, PORT))
            client.send(b"%d" % number)
        for number, client in enumerate(clients):
            assert select.select([client], [], [], 5)[0], f"client {number} was not answered"
            assert client.recv(2000) == b"%d" % number
    finally:
        with bed.socket("b1", kind=socket.SOCK_DGRAM) as end:
            end.sendto(ENDS, ("10.0.0.11", PORT))
        thread.join(5)
        server.close()
    daemon.until(lambda status: refusals(status, "echo") >= 1, "a refusal to be counted")


def refusals(status, service):
    """Return the number of refusals by the second host."""
    return backend_of(status, service, "10.0.0.12")["errors"]["port_unreachable"]


def test_datagrams_without_sessions(bed, daemon):
    """U7: if each refusal is reported, no datagram of a sequence is lost, and not every datagram tries the closed port."""
    bed.run("b2", ["sysctl", "-w", "net.ipv4.icmp_ratelimit=0"], check=True)
    server = bed.socket("b1", kind=socket.SOCK_DGRAM)
    server.bind(("10.0.0.11", PORT + 1))
    server.settimeout(5)
    client = bed.socket("client", kind=socket.SOCK_DGRAM)
    client.connect((SERVICE, PORT + 1))
    for number in range(20):
        client.send(b"%d" % number)
        assert server.recv(2000) == b"%d" % number
    assert (
        refusals(daemon.until(lambda status: refusals(status, "syslog") >= 1, "a refusal to be counted"), "syslog") < 10
    )
