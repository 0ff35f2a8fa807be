"""Tests of the herald child's supervision, with the real child."""
# ruff: noqa: B023, D101, D102 - the bed needs no words

import asyncio
import os
import signal
import time

import pytest

from proxy.config.model import Config
from proxy.config.settings import NodeSettings, WebSettings
from proxy.herald import herald as module
from proxy.herald.herald import Herald
from proxy.processes.child import Identity
from proxy.records.timeline import Timeline
from tests.proxy.herald.test_listeners import place

NODE = NodeSettings(name="lb1")


def config(*ports):
    if not ports:
        return Config(node=NODE)
    return Config(node=NODE, web=WebSettings(listen=tuple(f"127.0.0.1:{port}" for port in ports)))


class Bed:
    def __init__(self, *ports):
        self.told, self.made = [], 0
        self.herald = Herald(
            config(*ports), Identity(None, None, "error", "text"), Timeline(), self.snapshot, self.told.append
        )
        self.herald.bind(self.told.append)
        self.herald.open()

    async def snapshot(self):
        self.made += 1
        return b"{}", b"{}"

    async def until(self, condition, seconds=30.0):
        async with asyncio.timeout(seconds):
            while not condition():
                self.herald.look(time.monotonic())
                await asyncio.sleep(0.01)

    @property
    def ready(self):
        return self.herald.child is not None and self.herald.child.ready

    def reload(self, *ports):
        self.herald.commit(config(*ports), self.herald.prepare(config(*ports)))


@pytest.fixture
async def bed():
    beds = []

    def make(*ports):
        beds.append(Bed(*ports))
        return beds[0]

    yield make
    for one in beds:
        one.herald.kill()
        await one.until(lambda: one.herald.child is None)
        one.herald.close()


async def test_it_comes_and_goes_with_the_configuration(bed):
    """A daemon without [web] has no such process; a reload that adds [web] starts it, one that removes it ends it in order."""
    one = bed()
    one.herald.look(1.0)
    assert one.herald.child is None
    port = place().port
    one.reload(port)
    await one.until(lambda: one.ready)
    one.reload()
    await one.until(lambda: one.herald.child is None)
    assert one.told == []
    one.reload(port)
    await one.until(lambda: one.ready)


async def test_a_death_and_a_hang(bed, monkeypatch):
    """One that is killed is replaced at once, and one that says nothing is killed; both are told, and no socket is lost."""
    monkeypatch.setattr(module, "SILENCE", 4.0)
    one = bed(place().port)
    await one.until(lambda: one.ready)
    first = one.herald.child.pid
    sockets = one.herald.rows()
    os.kill(first, signal.SIGKILL)
    await one.until(lambda: one.ready and one.herald.child.pid != first)
    second = one.herald.child.pid
    os.kill(second, signal.SIGSTOP)
    await one.until(lambda: one.ready and one.herald.child.pid not in {first, second})
    assert one.herald.rows() == sockets
    assert f"pid {first} died, killed by SIGKILL: restarted, its clients wait meanwhile" in one.told
    assert f"no sign of life for 4 s: killing pid {second}" in one.told


async def test_it_leaves_to_a_successor(bed):
    """A process whose daemon has a successor ends by itself and is not replaced, unless the daemon goes on after all."""
    one = bed(place().port)
    await one.until(lambda: one.ready)
    one.herald.depart()
    await one.until(lambda: one.herald.child is None)
    one.herald.look(time.monotonic())
    assert one.herald.child is None
    assert one.told == []
    one.herald.recover()
    await one.until(lambda: one.ready)


async def test_one_that_does_not_leave(bed, monkeypatch):
    """A process that does not end in order is killed after a while."""
    monkeypatch.setattr(module, "FAREWELL", 0.2)
    one = bed(place().port)
    await one.until(lambda: one.ready)
    os.kill(one.herald.child.pid, signal.SIGSTOP)
    one.herald.depart()
    await one.until(lambda: one.herald.child is None)
