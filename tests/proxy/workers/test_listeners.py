"""The listening sockets of a daemon."""

import socket

import pytest

from proxy.backends.effective import Running
from proxy.config.loader import load
from proxy.stats.slots import Slots
from proxy.workers.listeners import ListenError, Listeners
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
