"""A service on a link-local address, whose interface comes and goes."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.e2e.bed import Bed
from tests.e2e.daemon import Daemon
from tests.e2e.process import until

FILE = """
[service.echo]
listen = ["[fe80::53%near]:5300/udp", "[fe80::53%near]:5300/tcp"]
backends = ["127.0.0.1:5301"]
probe = { type = "none" }
"""


@pytest.fixture
def bed() -> Iterator[Bed]:
    """Make a balancer and a client, joined by a cable that can be replaced."""
    with Bed() as made:
        for name in ("a", "client"):
            made.host(name)
        plug(made)
        yield made


def plug(bed: Bed) -> None:
    """Join the hosts by new interfaces; the number of the last one is taken, so that they have others."""
    if bed.hosts["a"].ports:
        bed.ip("a", "link add before type veth peer name behind")
    bed.ip("a", f"link add near type veth peer name far netns {bed.hosts['client'].holder.pid}")
    bed.ip("a", "addr add fe80::53/64 dev near nodad", "link set near up")
    bed.ip("client", "addr add fe80::1/64 dev far nodad", "link set far up")
    bed.hosts["a"].ports["client"] = "near"


def echo(bed: Bed) -> None:
    """Echo datagrams and connections on the balancer's loopback."""
    packets, server = bed.socket("a", kind=socket.SOCK_DGRAM), bed.socket("a")
    for made in (packets, server):
        made.bind(("127.0.0.1", 5301))
    server.listen()

    def datagrams() -> None:
        with contextlib.suppress(OSError):
            while True:
                packets.sendto(*packets.recvfrom(100))

    def connections() -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = server.accept()
                accepted.sendall(accepted.recv(100))
                accepted.close()

    for work in (datagrams, connections):
        threading.Thread(target=work, daemon=True).start()


def answers(bed: Bed, kind: socket.SocketKind) -> bool:
    """Whether a client is answered."""
    asked = bed.socket("client", socket.AF_INET6, kind)
    asked.settimeout(0.5)
    with bed.inside("client"):
        zone = socket.if_nametoindex("far")
    try:
        asked.connect(("fe80::53", 5300, 0, zone))
        asked.send(b"x")
        return asked.recv(10) == b"x"
    except OSError:
        return False
    finally:
        asked.close()


def test_served_again_after_the_interface_was_made_anew(bed):
    """R3: a service on a link-local address answers again after its interface was deleted and created again, with an event."""
    echo(bed)
    daemon = Daemon(bed, "a", FILE)
    kinds = (socket.SOCK_DGRAM, socket.SOCK_STREAM)
    until(lambda: all(answers(bed, kind) for kind in kinds), 5, "answers")
    for _ in range(2):
        bed.ip("a", "link del near")
        plug(bed)
        until(lambda: all(answers(bed, kind) for kind in kinds), 8, "answers by the new interface")
        bed.ip("a", "link del before")
    assert "bound again, as its interface was recreated" in daemon.cli("events").stdout
