"""UDP that is handled in another way from now on: the former relay finishes, the new one has the clients."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from proxy.relay.plan import DnsPlan
from tests.proxy.relay.conftest import UDP, Relay, eventually
from tests.proxy.relay.dnsbed import Backend, answer, client, query


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A backend whose answers the test sends."""
    one = Backend()
    yield one
    one.close()


def become(relay: Relay, **changes: Any) -> None:
    """Change the first service."""
    plan = relay.services[0] = replace(relay.services[0], **changes)
    relay.call(lambda: relay.engine.change([plan], [], 2, lambda _: None))


def test_from_dns_to_plain(relay: Relay, backend: Backend) -> None:
    """R3: a service that is no longer DNS answers the queries in flight, and takes the next datagram as it is."""
    at = relay.service([backend.address], transports=("udp",), protocol="dns")
    relay.start()
    with client(at) as one, client(at) as two:
        one.send(query(ident=7))
        asked, source = backend.take()
        become(relay, protocol="plain")
        two.send(query(ident=9))
        assert backend.take()[0] == query(ident=9)
        backend.reply(answer(asked), source)
        assert one.recv(100) == answer(query(ident=7))
    eventually(lambda: not relay.engine._relays._former, within=3)
    assert not relay.engine._members.retired
    assert [relay.counter(name) for name in ("inflight", "servfail", "sessions")] == [0, 0, 1]


def test_from_plain_to_dns(relay: Relay, backend: Backend) -> None:
    """R3: a service that becomes DNS still brings a session's answers, and the session ends when it is quiet."""
    at = relay.service([backend.address], transports=("udp",), udp=replace(UDP, idle_timeout=float("inf")))
    relay.start()
    with client(at) as one:
        one.send(b"syslog")
        _, source = backend.take()
        become(relay, protocol="dns")
        backend.reply(b"late", source)
        assert one.recv(100) == b"late"
        one.send(query())
        asked, source = backend.take()
        backend.reply(answer(asked), source)
        assert one.recv(100) == answer(query())
    eventually(lambda: not relay.engine._relays._former, within=3)
    assert [relay.counter(name) for name in ("sessions", "expired", "drained_hard")] == [0, 1, 0]


def test_to_and_fro(relay: Relay, backend: Backend) -> None:
    """R3: datagrams reach the backend however often sessions are switched off and on, and no socket is left."""
    at = relay.service([backend.address], transports=("udp",))
    relay.start()
    with client(at) as one:
        for turn in range(20):
            become(relay, udp=replace(UDP, per_datagram=not turn % 2))
            one.send(b"%d" % turn)
            assert backend.take()[0] == b"%d" % turn
    eventually(lambda: not relay.engine._relays._former, within=3)
    assert not relay.engine._members.retired
    assert relay.backend(backend.address, "active") <= 1


def test_a_former_relay_hears_of_its_backends(relay: Relay) -> None:
    """R3: a query in flight of a service that is no longer DNS is asked elsewhere when its backend goes down."""
    with contextlib.closing(Backend()) as first, contextlib.closing(Backend()) as second:
        at = relay.service(
            [first.address, second.address],
            transports=("udp",),
            protocol="dns",
            scheduler="failover",
            dns=DnsPlan(9.0, 20.0),
        )
        relay.start()
        with client(at) as one:
            one.send(query(ident=7))
            first.take()
            become(relay, protocol="plain")
            relay.verdict(first.address, "down")
            asked, source = second.take()
            second.reply(answer(asked), source)
            assert one.recv(100) == answer(query(ident=7))
