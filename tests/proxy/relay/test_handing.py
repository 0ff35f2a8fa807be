"""A worker that hands over to its successor: what is queued, what is in flight, and its UDP sessions in lots."""

import contextlib
import time
from collections.abc import Iterator

import pytest

from proxy.relay.udp import handover
from proxy.relay.udp.sessions import ANSWER_DUE
from tests.proxy.relay.conftest import Relay, eventually
from tests.proxy.relay.dnsbed import Backend, answer, client, query
from tests.proxy.relay.generations import Generations, ask
from tests.proxy.relay.streams import accept, connect, listen, where


@pytest.fixture
def both() -> Iterator[Generations]:
    """An old and a new generation."""
    one = Generations()
    yield one
    one.close()


def test_many_sessions_travel_in_lots(both: Generations) -> None:
    """R6: hundreds of sessions are handed over in small lots, the last of which says so, and wait for a crowded channel."""
    at = both.start()
    for _ in range(250):
        both.client(at).send(b"x")
    eventually(lambda: both.old.counter("sessions") == 250)
    both.new.start()
    both.moved, refusals = [], [True]

    def crowded(rows: list[handover.Row], fds: list[int], last: bool) -> bool:
        return not refusals and both.pass_on(rows, fds, last)

    both.old.call(lambda: both.old.engine.hand_over(crowded))
    time.sleep(ANSWER_DUE + 0.1)  # until the sessions alone would not keep it
    assert not both.old.call(lambda: both.old.engine.idle)
    refusals.clear()
    eventually(lambda: both.sent and both.sent[-1][1])
    assert both.sent == [(100, False), (100, False), (50, True)]
    for rows, fds in both.moved:
        both.new.call(lambda rows=rows, fds=fds: both.new.engine.adopt(rows, fds))
    assert both.new.counter("sessions") == both.new.counter("sessions_adopted") == 250


def test_without_sessions(both: Generations) -> None:
    """A worker without sessions says at once that these were all."""
    both.start()
    assert both.hand_over() == 0
    assert both.sent == [(0, True)]


def test_a_drain_without_a_successor(both: Generations) -> None:
    """A worker that has begun to hand over and is then told to drain keeps the sessions that are left."""
    at = both.start()
    ask(both.client(at), both.backends[0], b"one")
    both.old.call(lambda: both.old.engine.hand_over(lambda *_: False))
    assert not both.old.call(lambda: both.old.engine.idle)
    both.old.call(both.old.engine.drain)
    eventually(lambda: both.old.call(lambda: both.old.engine.idle))
    assert both.old.counter("sessions") == 1


def test_queued_clients_are_left_to_the_successor() -> None:
    """R6: clients that connect after the old worker has stopped to poll wait for the new one; open connections go on."""
    with listen() as server, contextlib.ExitStack() as stack:
        old, new = Relay(), Relay()
        stack.callback(new.close)
        stack.callback(old.close)
        at = old.service([where(server)])
        ((member, sock),) = old._listeners
        old.start()
        new.service([where(server)], transports=())
        first = stack.enter_context(connect(at))
        end = stack.enter_context(accept(server))
        old.call(lambda: old.engine.hand_over(lambda *_: True))
        queued = [stack.enter_context(connect(at)) for _ in range(20)]
        new.start()
        new.call(lambda: new.engine.listen(member, sock.dup()))
        for one in (*queued, first):
            one.sendall(b"x")
        assert end.recv(1) == b"x"
        for _ in queued:
            assert stack.enter_context(accept(server)).recv(1) == b"x"
        assert (old.counter("accepted"), new.counter("accepted")) == (1, 20)
        assert not old.call(lambda: old.engine.idle)
        first.close()
        end.close()
        eventually(lambda: old.call(lambda: old.engine.idle))


def test_queries_in_flight_are_finished(relay: Relay) -> None:
    """R6: queries that the old worker has taken are answered by it, and only then it may leave."""
    backend = Backend()
    at = relay.service([backend.address], transports=("udp",), protocol="dns")
    relay.start()
    with client(at) as one, contextlib.closing(backend):
        one.send(query())
        asked, source = backend.take()
        relay.call(lambda: relay.engine.hand_over(lambda *_: True))
        assert not relay.call(lambda: relay.engine.idle)
        backend.reply(answer(asked), source)
        assert one.recv(100) == answer(query())
        eventually(lambda: relay.call(lambda: relay.engine.idle))
