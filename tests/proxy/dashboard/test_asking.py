"""proxy.dashboard.asking: what a look brings, in a thread that stops nothing."""

import asyncio
import threading

import pytest

from proxy.dashboard.asking import EVENTS, extra, in_thread, look, merged
from proxy.dashboard.detail import CONNECTIONS
from tests.proxy.dashboard.lively import NOW, Source, connection, events


def event(at, text="x"):
    """Return an event."""
    return {"at": at, "kind": "verdict", "subject": "dns", "text": text}


def test_a_look():
    """A look brings the snapshot and the events that are new."""
    found = look(Source(), NOW - 35)
    assert found.status["node"] == "lb1"
    assert [one["subject"] for one in found.events] == ["smtp/10.0.0.51", "inside"]
    assert (found.away, found.events_away) == ("", "")


def test_no_answer():
    """Whatever goes wrong, the look says what it was; without events there is still a snapshot."""
    source = Source()
    source.events = lambda last, since=None: 1 / 0
    assert look(source, None).events_away == "division by zero"
    assert look(source, None).status is not None
    source.away = OSError("connection refused")
    assert look(source, None).away == "connection refused"
    source.away = OSError()
    assert look(source, None).away == "OSError"


def test_events_are_kept_once():
    """The events of the newest known time come again with those behind them, and are kept once; there is a bound."""
    known = [event(1.0), event(2.0, "a")]
    assert merged(known, [event(2.0, "a"), event(2.0, "b"), event(3.0)]) == [*known, event(2.0, "b"), event(3.0)]
    assert merged([], known) == known
    assert merged(known, []) == known
    assert len(merged([event(float(at)) for at in range(EVENTS)], [event(1e6)])) == EVENTS


def test_a_clock_that_was_set_back():
    """Events whose time lies before the newest known one are not taken for known ones."""
    assert merged([event(100.0)], [event(100.0), event(50.0)]) == [event(100.0), event(50.0)]


def test_an_answer_without_order():
    """A server that always sends all of its events repeats none of them here."""
    all_ = events(NOW)
    assert merged(all_, all_) == all_


def test_connections_are_bounded():
    """Of a hundred thousand connections the first ones are asked for, and the rest is left."""
    source, pages = Source(), []

    def answer():
        for _ in range(1000):
            pages.append(1)
            yield {"connections": [connection(1)] * 100, "more": True}

    source.answers["connections"] = answer()
    found = extra(source, "ldap", "10.0.0.21")
    assert len(found.connections) == CONNECTIONS
    assert found.more
    assert len(pages) <= 3


def test_an_older_daemon():
    """A daemon without a histogram, or one that refuses, leaves a word in its place."""
    source = Source()
    source.answers["latency"] = ValueError('there is no command "latency"')
    assert extra(source, "ldap", "10.0.0.21").why == 'there is no command "latency"'


async def test_a_thread_stops_nothing():
    """The loop goes on while a thread waits, and gets its result or its error."""
    gate = threading.Event()
    waiting = asyncio.ensure_future(in_thread(gate.wait))
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.set()
    assert await waiting is True
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0)


async def test_an_answer_that_nobody_waits_for():
    """The answer to a question that was given up is dropped."""
    gate = threading.Event()
    waiting = asyncio.ensure_future(in_thread(gate.wait))
    await asyncio.sleep(0)
    waiting.cancel()
    gate.set()
    await asyncio.sleep(0.05)
    assert waiting.cancelled()
