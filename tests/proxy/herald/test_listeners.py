"""Tests of the herald process's listening sockets, with real ones."""

import os
import socket

import pytest

from proxy.config.model import Config
from proxy.config.settings import NodeSettings, WebSettings
from proxy.herald.listeners import HeraldListenError, HeraldListeners, Place, adopted, places


def place(port=0, address="127.0.0.1"):
    if not port:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
            sock.bind((address, 0))
            port = sock.getsockname()[1]
    return Place("web", address, port)


@pytest.fixture
def listeners():
    made = HeraldListeners()
    yield made
    made.close()


def test_places_of_a_configuration():
    """S3: a file without [web] listens nowhere, an empty [web] on loopback alone, others where they say."""
    node = NodeSettings(name="a")
    assert places(Config(node=node)) == []
    assert places(Config(node=node, web=WebSettings())) == [Place("web", "127.0.0.1", 9600)]
    both = WebSettings.model_validate({"listen": ["[::1]:1", "192.0.2.1:2"]})
    assert [one.text for one in places(Config(node=node, web=both))] == ["[::1]:1", "192.0.2.1:2"]


def test_a_change(listeners):
    """A place that stays keeps its socket, a new one is bound, and one that goes is closed."""
    one, two, three = place(), place(), place()
    assert listeners.commit(listeners.prepare([one, two]))
    before = dict(listeners.rows())
    assert not listeners.commit(listeners.prepare([one, two]))
    assert listeners.commit(listeners.prepare([two, three, three]))
    after = dict(listeners.rows())
    assert after.keys() == {two, three}
    assert after[two] == before[two]
    assert set(listeners.of("pair")) == set()
    with socket.create_connection(("127.0.0.1", three.port)), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", one.port))


def test_a_port_that_is_taken(listeners):
    """A port that another process has is an error that names the table and the place, and then nothing is bound."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken, free = place(other.getsockname()[1]), place()
        with pytest.raises(HeraldListenError, match=rf"^\[web\] 127.0.0.1:{taken.port}/tcp: already in use"):
            listeners.prepare([free, taken])
    assert listeners.rows() == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free.port))


def test_what_is_prepared_and_not_wanted(listeners):
    """A change that is given up closes what was bound for it."""
    one = place()
    listeners.prepare([one]).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", one.port))


def test_a_predecessor_s_sockets():
    """Sockets of a predecessor are used in their places; a descriptor that is missing or no such socket is left out."""
    one, two, three = place(), place(), place()
    had, foreign, pipe = one.bound([]), socket.socket(), os.pipe()
    foreign.bind(("127.0.0.1", 0))
    found = adopted([(one, had.detach()), (two, -1), (two, pipe[0]), (three, foreign.detach())])
    os.close(pipe[1])
    assert found.keys() == {one}
    second = HeraldListeners(found)
    assert second.prepare([one]).new == {}
    socket.create_connection(("127.0.0.1", one.port)).close()
    second.close()
