"""Tests of the health child's supervision, with the real child."""
# ruff: noqa: B023, D101, D102 - the bed needs no words

import asyncio
import os
import signal
import time

import pytest

from proxy.probing import prober
from proxy.probing.prober import Prober
from proxy.processes import keeper
from proxy.processes.child import Identity


class Bed:
    def __init__(self, targets=()):
        self.targets = list(targets)
        self.probed, self.told = [], []
        self.prober = Prober(
            Identity(None, None, "error", "text"), lambda: self.targets, self.probed.append, self.told.append
        )
        self.prober.start()

    async def until(self, condition, seconds=20.0):
        async with asyncio.timeout(seconds):
            while not condition():
                self.prober.look(time.monotonic())
                await asyncio.sleep(0.01)

    @property
    def ready(self):
        return self.prober.child is not None and self.prober.child.ready


@pytest.fixture
async def bed():
    beds = []

    def make(*targets):
        beds.append(Bed(targets))
        return beds[0]

    yield make
    for one in beds:
        one.prober.kill()
        await one.until(lambda: one.prober.child is None)


def nothing(key, state="unknown"):
    return {
        "key": key,
        "address": "127.0.0.1",
        "port": 9,
        "probes": [{"type": "none"}],
        "require": "all",
        "state": state,
    }


async def test_verdicts_and_reports(bed):
    """Verdicts come up with their reason, a report says what each probe found, and a death in between is survived."""
    one = bed(nothing("0.0"), nothing("0.1", "up"))
    await one.until(lambda: one.probed)
    assert [(verdict.key, verdict.state) for verdict in one.probed] == [("0.0", "up")]  # the other one is known
    report = await one.prober.report()
    assert set(report) == {"0.0", "0.1"}
    pid = one.prober.child.pid
    asked = asyncio.ensure_future(one.prober.report())
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    await one.until(asked.done)
    await one.until(lambda: one.ready and one.prober.child.pid != pid)
    assert one.told == [f"pid {pid} died, killed by SIGKILL: restarted, the verdicts stay"]


async def test_one_that_hangs(bed, monkeypatch):
    """Health that is silent is killed; until then a report is empty after a second, and hints are dropped, not heaped."""
    monkeypatch.setattr(prober, "SILENCE", 2.0)
    one = bed(nothing("0.0"))
    await one.until(lambda: one.ready)
    child = one.prober.child
    os.kill(child.pid, signal.SIGSTOP)
    for _ in range(10_000):
        one.prober.suspect("a/b")
    assert child.channel.waiting <= prober.HINTS
    began = time.monotonic()
    assert await one.prober.report() == {}
    assert 0.9 < time.monotonic() - began < 1.5
    await one.until(lambda: one.ready and one.prober.child is not child)
    assert f"no sign of life for 2 s: killing pid {child.pid}" in one.told


async def test_a_start_that_fails(bed, monkeypatch):
    """A start that is impossible now is told and tried again."""
    real, failures = keeper.Child, [OSError(12, "Cannot allocate memory")]

    def child(*arguments):
        if failures:
            raise failures.pop()
        return real(*arguments)

    monkeypatch.setattr(keeper, "Child", child)
    one = bed()
    assert one.told == ["cannot be started: [Errno 12] Cannot allocate memory"]
    await one.until(lambda: one.ready)
