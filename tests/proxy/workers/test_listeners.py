"""The listening sockets of a daemon."""

import os
import socket

import pytest

from proxy.backends.effective import Running
from proxy.config.loader import load
from proxy.stats.slots import Slots
from proxy.workers.listeners import ListenError, Listeners
from tests.e2e.bed import Bed
from tests.e2e.loopback import free_port

FILE = """
[node]
name = "n"
workers = 2
[service.a]
listen = ["127.0.0.1:{a}/udp", "127.0.0.1:{a}/tcp"]
backends = ["192.0.2.1"]
probe = {{ type = "none" }}
[service.b]
listen = ["127.0.0.1:{b}/tcp"]
backends = ["192.0.2.1"]
"""

LINK_LOCAL = """
[node]
name = "n"
workers = 2
[service.a]
listen = ["[fe80::53%near]:53/udp", "[fe80::53%near]:53/tcp"]
backends = ["192.0.2.1"]
probe = { type = "none" }
"""


@pytest.fixture
def running(tmp_path):
    path = tmp_path / "f.toml"
    path.write_text(FILE.format(a=free_port(), b=free_port()))
    return Running(load(path), Slots(16), Slots(64))


def test_a_group_for_each(running):
    """Each listener has as many members as there are workers, and belongs to its service."""
    listeners = Listeners()
    listeners.bind(running, lambda *_: None)
    try:
        assert (listeners.numbers, len(listeners)) == ([0, 1, 2], 3)
        assert (listeners.of({0}), listeners.of({1}), listeners.of(())) == ([0, 1], [2], [])
        member, fd = listeners.member((2, 1))
        port = running.services["b"].listeners[0].port
        assert (member.index, member.service, member.transport, member.port) == (1, 1, "tcp", port)
        assert fd != listeners.member((2, 0))[1]
    finally:
        listeners.close()


def test_all_or_none(running):
    """R11: where one address is taken, none is held, and each that cannot be had is told with its service."""
    ports = [service.listeners[-1].port for service in running.services.values()]
    with socket.create_server(("127.0.0.1", ports[0])), socket.create_server(("127.0.0.1", ports[1])):
        with pytest.raises(ListenError) as caught:
            Listeners().bind(running, lambda *_: None)
        lines = str(caught.value).splitlines()
        assert [line.partition(":")[0] for line in lines] == ["service.a", "service.b"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", ports[0]))


async def test_bound_again_when_the_interface_is_another():
    """R3: a listener on a link-local address is bound again, under a new number, once its interface is made anew."""
    with Bed() as bed:
        bed.host("a")
        bed.ip("a", "link add near type veth peer name far", "addr add fe80::53/64 dev near nodad", "link set near up")
        path = bed.dir / "f.toml"
        path.write_text(LINK_LOCAL)
        told = []
        listeners = Listeners()
        with bed.inside("a"):
            listeners.bind(Running(load(path), Slots(16), Slots(64)), lambda *_: None)
            try:
                assert list(listeners.renew(told.append)) == []
                bed.ip("a", "link del near")
                assert list(listeners.renew(told.append)) == []
                bed.ip("a", "link add near type veth peer name far", "link set near up")
                assert list(listeners.renew(told.append)) == [(0, 2), (1, 3)]
                assert (listeners.numbers, len(told)) == ([2, 3], 2)
                member, descriptor = listeners.member((2, 1))
                with socket.socket(fileno=os.dup(descriptor)) as sock:
                    assert sock.getsockname()[3] == socket.if_nametoindex("near")
                assert member.listener == 2
                assert list(listeners.renew(told.append)) == []
            finally:
                listeners.close()
