"""Tests of what the herald process is told, with a loop and without a process."""

import asyncio
import os
import types

import pytest

from proxy.herald.feed import CROWDED, EVERY, PAST, WANTED, EventFeed, SnapshotFeed
from proxy.processes.messages import herald as herald_messages
from proxy.records.timeline import Timeline

CHILD = types.SimpleNamespace(channel=types.SimpleNamespace(waiting=0))
FULL = types.SimpleNamespace(channel=types.SimpleNamespace(waiting=CROWDED + 1))


@pytest.fixture
def sent():
    return []


@pytest.fixture
async def snapshots(sent):
    made = iter(range(100))

    async def make():
        await asyncio.sleep(0)
        return b"%d" % next(made)

    feed = SnapshotFeed(make, lambda message, fds: sent.append(os.pread(fds[0], message.octets + 1, 0)))
    yield feed
    feed.close()


async def turn():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_nobody_asks(snapshots, sent):
    """No snapshot is made unless somebody has asked within the last seconds."""
    snapshots.look(100.0, CHILD)
    snapshots.wanted(100.0)
    snapshots.look(100.0 + WANTED + 0.1, CHILD)
    await turn()
    assert sent == []


async def test_many_ask(snapshots, sent):
    """S3: however often strangers ask, a snapshot is made once a second at most, and none for a process that does not read."""
    for tick in range(30):
        snapshots.wanted(tick / 10)
        snapshots.look(tick / 10, CHILD)
        snapshots.look(tick / 10, CHILD)
        await turn()
    assert sent == [b"0", b"1", b"2"]
    snapshots.look(2 + EVERY, FULL)
    snapshots.look(2 + EVERY, None)
    await turn()
    assert len(sent) == 3


async def test_events_of_before_and_from_now_on(sent):
    """A process gets the last events first, in messages of bounded size, and then each as it happens."""
    timeline = Timeline()
    for number in range(PAST + 50):
        timeline.add("x", "y", str(number))
    feed = EventFeed(timeline, lambda message, _: sent.append(message))
    feed.begin(CHILD)
    await asyncio.sleep(0.05)
    timeline.add("x", "y", "new")
    await asyncio.sleep(0.05)
    assert [message.anew for message in sent] == [True, *[False] * (len(sent) - 1)]
    texts = [event["text"] for message in sent for event in message.events]
    assert texts == [*map(str, range(50, PAST + 50)), "new"]
    feed.begin(CHILD)
    await asyncio.sleep(0.05)
    assert sum(message.anew for message in sent) == 2
    feed.close()
    await turn()
    timeline.add("x", "y", "unheard")
    await turn()
    assert sent[-1].events[-1]["text"] == "new"


async def test_a_new_process_has_no_old_events(sent):
    """A daemon without events says so: what a process had of an earlier daemon would be shown otherwise."""
    feed = EventFeed(Timeline(), lambda message, _: sent.append(message))
    feed.begin(CHILD)
    await turn()
    assert sent == [herald_messages.Events([], anew=True)]
    feed.close()
