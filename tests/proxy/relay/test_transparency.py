"""Services that show their backends the clients' addresses, or no longer."""

import socket
from dataclasses import replace

from proxy.relay.sockets.transparent import LOT
from tests.proxy.relay.conftest import Relay
from tests.proxy.relay.streams import accept, connect, listen, turned_away, where


def change(relay: Relay, *, transparent: bool) -> None:
    """Change the first service."""
    relay.services[0] = plan = replace(relay.services[0], transparent=transparent)
    relay.call(lambda: relay.engine.change([plan], [], 2, lambda _: None))


def test_transparent_when_there_are_sockets(relay: Relay) -> None:
    """R3: a service becomes transparent when the master has answered: until then no client lacks a socket."""
    wanted: list[tuple[int, int, int]] = []
    with listen() as server:
        at = relay.service([where(server)])
        relay.start()
        relay.engine._transparency.stock._want = lambda *want: wanted.append(want)
        change(relay, transparent=True)
        with connect(at), accept(server):
            assert wanted
            assert relay.engine._services[0].stock is None
        for _ in wanted:
            relay.call(lambda: relay.engine.prepared(socket.AF_INET, socket.SOCK_STREAM, LOT, []))
        assert relay.engine._services[0].stock is relay.engine._transparency.stock
        assert turned_away(at)
        assert relay.counter("no_transparent_socket") >= 1
        change(relay, transparent=False)
        with connect(at), accept(server):
            assert relay.engine._services[0].stock is None


def test_a_service_that_is_gone_does_not_wait(relay: Relay) -> None:
    """A service that leaves before its sockets have come is forgotten, and the sockets wait for others."""
    with listen() as server:
        relay.service([where(server)])
        relay.start()
        change(relay, transparent=True)
        assert relay.engine._transparency._opaque
        relay.call(lambda: relay.engine.change([], [(0, 0.0)], 3, lambda _: None))
        relay.call(lambda: relay.engine.prepared(socket.AF_INET, socket.SOCK_STREAM, LOT, []))
        assert not relay.engine._transparency._opaque
