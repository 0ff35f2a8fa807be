"""Tests of what the herald process knows, and how readers wait for it."""

import asyncio

import pytest

from proxy.web import view as module
from proxy.web.view import EVENTS, View


@pytest.fixture
async def asked():
    return []


@pytest.fixture
async def view(asked):
    return View(lambda: asked.append(True))


async def test_a_reader_waits_for_a_fresh_snapshot(view, asked, monkeypatch):
    """A reader waits for the first snapshot, takes one that is fresh at once, and waits again when it is not; within a bound."""
    assert view.age is None
    assert await view.snapshot(0.01) is None
    waiting = asyncio.create_task(view.snapshot(5.0))
    await asyncio.sleep(0)
    view.take(b"1")
    assert (await waiting).status == b"1"
    assert (await view.snapshot(0.0)).status == b"1"
    assert 0 <= view.age < 5
    monkeypatch.setattr(module, "FRESH", 0.0)
    assert await view.snapshot(0.01) is None


async def test_the_last_readers_have_what_there_is(view, monkeypatch):
    """When the master sends no more, whoever waits or comes gets the last snapshot at once, or none if there never was one."""
    waiting = asyncio.create_task(view.snapshot(5.0))
    await asyncio.sleep(0)
    view.settle()
    assert await asyncio.wait_for(waiting, 1) is None
    view.take(b"1")
    monkeypatch.setattr(module, "FRESH", 0.0)
    assert (await view.snapshot(5.0)).status == b"1"


async def test_the_master_is_asked_now_and_then(view, asked, monkeypatch):
    """However many ask, the master gets one word in some seconds."""
    for _ in range(50):
        view.ask()
    assert len(asked) == 1
    monkeypatch.setattr(module, "REMIND", 0.0)
    view.ask()
    assert len(asked) == 2


async def test_the_next_snapshot(view):
    """Each reader that waits for a change wakes at the next snapshot, and no longer waits than it says."""
    view.take(b"1")
    waiting = [asyncio.create_task(view.change(0, 0, 5.0)) for _ in range(3)]
    await asyncio.sleep(0)
    view.take(b"2")
    await asyncio.wait_for(asyncio.gather(*waiting), 1)
    assert view.number == 1
    await asyncio.wait_for(view.change(0, 1, 0.01), 1)


async def test_events(view):
    """Events are kept within a bound, `since` gives those that came after a number, and a reader can wait for news."""
    view.tell([{"text": "old"}])
    told = view.told
    waiting = asyncio.create_task(view.change(told, -1, 5.0))
    await asyncio.sleep(0)
    view.tell([{"text": "a"}, {"text": "b"}])
    await asyncio.wait_for(waiting, 1)
    assert view.since(told) == [{"text": "a"}, {"text": "b"}]
    assert view.since(view.told) == []
    view.tell([{"text": "c"}], anew=True)
    assert view.events() == [{"text": "c"}]
    assert view.since(told) == [{"text": "c"}]
    view.tell([{"text": str(number)} for number in range(2 * EVENTS)])
    assert len(view.events()) == EVENTS
