"""Tests of a child that there is always to be one of, with real processes."""

import asyncio
import os
import signal
import time

import pytest

from proxy.processes import child, keeper
from proxy.processes.child import Identity
from proxy.processes.keeper import Kept
from proxy.processes.messages import common as messages

MODULE = "proxy.healthd"  # any child of ours


class Bed:
    """One that is kept, its looks, and what it told."""

    def __init__(self, **more):
        self.told, self.begun = [], []
        self.kept = Kept(
            MODULE, Identity(None, None, "error", "text"), silence=5.0, told=self.told.append, afterwards="again",
            on_ready=lambda: self.begun.append(self.kept.child.pid), on_message=lambda _: None, **more,
        )  # fmt: skip
        self.kept.start()

    async def until(self, condition, seconds=20.0):
        """Look until something holds."""
        async with asyncio.timeout(seconds):
            while not condition():
                self.kept.look(time.monotonic())
                await asyncio.sleep(0.01)


@pytest.fixture
async def bed(monkeypatch):
    """Make some; all of their processes are gone afterwards."""
    monkeypatch.setattr(keeper, "SPARE_PAUSE", 0.05)
    beds = []

    def make(**more):
        beds.append(Bed(**more))
        return beds[-1]

    yield make
    for one in beds:
        one.kept.kill()
        await one.until(lambda one=one: not one.kept.children)


async def test_a_spare_takes_over(bed):
    """A death finds the successor running: it is told what it must know at once, and another one stands by then."""
    one = bed(spare=True)
    await one.until(lambda: len(one.kept.children) == 2 and one.kept.children[1].ready)
    first, spare = one.kept.children
    os.kill(first.pid, signal.SIGKILL)
    await one.until(lambda: one.kept.child is spare, 1.0)
    assert one.begun == [first.pid, spare.pid]
    await one.until(lambda: len(one.kept.children) == 2)


async def test_a_spare_that_dies(bed):
    """One that stands by and dies is replaced without a word, and nothing happens to the one that serves."""
    one = bed(spare=True)
    await one.until(lambda: len(one.kept.children) == 2 and one.kept.children[1].ready)
    first, spare = one.kept.children
    os.kill(spare.pid, signal.SIGKILL)
    await one.until(lambda: len(one.kept.children) == 2 and one.kept.children[1] is not spare)
    assert (one.kept.child, one.told) == (first, [])


async def test_a_start_that_takes_long(bed, monkeypatch):
    """One that is not ready in time is killed, says so, and has ever more time: in the end it is ready on any host."""
    monkeypatch.setattr(child, "START", 0.02)
    one = bed()
    await one.until(lambda: one.kept.ready)
    assert "not ready 0.02 s after its start: killing pid" in one.told[0]
    assert sum("killing pid" in text for text in one.told) >= 2


async def test_a_question_outlives_nobody(bed):
    """A question to a process that dies is answered with nothing, at once."""
    one = bed()
    await one.until(lambda: one.kept.ready)
    os.kill(one.kept.child.pid, signal.SIGSTOP)
    asked = asyncio.ensure_future(one.kept.ask(messages.Ask, 30.0))
    await asyncio.sleep(0.05)
    os.kill(one.kept.child.pid, signal.SIGKILL)
    await one.until(asked.done, 2.0)
    assert asked.result() is None


async def test_released(bed):
    """One that was released is not replaced when it leaves."""
    one = bed(spare=True)
    await one.until(lambda: len(one.kept.children) == 2)
    one.kept.release()
    os.kill(one.kept.child.pid, signal.SIGKILL)
    await one.until(lambda: not one.kept.children)
    await asyncio.sleep(0.2)
    one.kept.look(time.monotonic())
    assert not one.kept.children
