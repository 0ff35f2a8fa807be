"""Tests of the herald child's side of the channel."""

import asyncio
import os
import socket

import pytest

from proxy import heraldd
from proxy.heraldd import Herald
from proxy.processes import channel, codec
from proxy.processes.messages import common as messages
from proxy.processes.messages import herald as herald_messages
from proxy.stats import sealed


@pytest.fixture
async def pair(monkeypatch):
    monkeypatch.setattr(heraldd, "BEAT", 0.02)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    herald = Herald(theirs)
    yield ours, herald
    await herald.close()
    ours.close()


def read(sock):
    got = []
    sock.setblocking(False)
    while True:
        try:
            got.append(channel.receive(sock)[0])
        except BlockingIOError:
            return got


def order(sock, message, fds=()):
    socket.send_fds(sock, [b"J" + codec.encode(message)], list(fds))


async def test_it_beats(pair):
    """Herald says that it is ready, shows from then on that its loop comes round, and does not heap beats up."""
    ours, _ = pair
    await asyncio.sleep(0.1)
    got = read(ours)
    assert isinstance(got[0], messages.Ready)
    assert got.count(messages.Beat()) >= 3


async def test_snapshots_and_events(pair):
    """It takes snapshots and events, and tells the master when somebody asks for them."""
    ours, herald = pair
    fd = sealed.frozen("x", b'{"status": {}}')
    order(ours, herald_messages.Snapshot(14), [fd])
    os.close(fd)
    order(ours, herald_messages.Events([{"text": "a"}], anew=True))
    order(ours, messages.Level("warning", "text"))
    seen = await herald.view.snapshot(5.0)
    assert seen.document == b'{"status": {}}'
    await asyncio.sleep(0.05)
    assert herald.view.events() == [{"text": "a"}]
    assert herald_messages.Wanted() in read(ours)


async def test_its_end(pair):
    """It ends when its master is gone, and not as one that has failed."""
    ours, herald = pair
    ours.close()
    await asyncio.wait_for(herald.done.wait(), 5)
    assert not herald.failed


async def test_it_departs(pair):
    """It ends when it is told to."""
    ours, herald = pair
    order(ours, herald_messages.Depart())
    await asyncio.wait_for(herald.done.wait(), 5)
    assert not herald.failed


async def test_an_order_that_cannot_be_obeyed(pair):
    """A snapshot without its memory ends herald as failed: one that shows nothing new and still beats would be worse."""
    ours, herald = pair
    order(ours, herald_messages.Snapshot(5))
    await asyncio.wait_for(herald.done.wait(), 5)
    assert herald.failed
