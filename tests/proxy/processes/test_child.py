"""Tests of a child's life, with real processes."""
# ruff: noqa: ASYNC110, ASYNC222, D102, PTH208 - processes are polled for what happened

import asyncio
import os
import signal
import site
from pathlib import Path

import pytest

import proxy
from proxy.processes import child
from proxy.processes.child import FIRST_PAUSE, LONGEST_PAUSE, LONGEST_START, SETTLED, START, Child, Identity, Pace
from proxy.processes.messages import common as messages

ME = Identity(None, None, "info", "text")


class Life:
    """A child whose messages and death are noted."""

    def __init__(self, module="proxy.healthd"):
        self.messages = []
        self.deaths = []
        self.child = Child(module, ME, lambda message, fds: self.messages.append((message, fds)), self.deaths.append)

    async def until(self, condition, seconds=15.0):
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)


@pytest.fixture
def descriptors():
    return lambda: sorted(os.listdir("/proc/self/fd"))


async def test_a_life(descriptors):
    """A child gets ready, is reaped when it dies, says how, and leaves no descriptor."""
    before = descriptors()
    life = Life()
    await life.until(lambda: life.messages)
    assert isinstance(life.messages[0][0], messages.Ready)
    assert life.child.alive
    os.kill(life.child.pid, signal.SIGKILL)
    await life.until(lambda: life.deaths)
    assert life.deaths == ["killed by SIGKILL"]
    assert life.child.gone.is_set()
    assert not life.child.alive
    life.child.kill()
    life.child.send(messages.Beat())
    assert descriptors() == before


async def test_signals_to_the_group():
    """What a terminal sends to the whole group ends no child, neither while it still imports nor afterwards."""
    life = Life()
    for _ in range(100):
        for number in child.OURS:
            os.kill(life.child.pid, number)
        await asyncio.sleep(0.002)
    await life.until(lambda: life.messages)
    for number in child.OURS:
        os.kill(life.child.pid, number)
    await asyncio.sleep(0.05)
    assert life.child.alive
    life.child.kill()
    await life.until(lambda: life.deaths)


async def test_dead_before_it_is_reaped():
    """A child that has died is not alive, even before the loop has come to reaping it."""
    life = Life()
    os.kill(life.child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, life.child.pid, os.WEXITED | os.WNOWAIT)
    assert not life.deaths
    assert not life.child.alive
    await life.until(lambda: life.deaths)


async def test_one_that_reads_nothing_is_killed():
    """A child that has stopped reading is killed when its queue is full, as it would miss what it must know."""
    life = Life()
    await life.until(lambda: life.messages)
    os.kill(life.child.pid, signal.SIGSTOP)
    for number in range(10_000):
        life.child.send(messages.Ask(number))
    await life.until(lambda: life.deaths)
    assert life.deaths == ["killed by SIGKILL"]


async def test_one_whose_channel_ended_is_killed(monkeypatch):
    """A child that lives on without its channel, which nobody could tell anything, is killed after a moment."""
    monkeypatch.setattr(child, "FAREWELL", 0.1)
    life = Life()
    await life.until(lambda: life.messages)
    os.kill(life.child.pid, signal.SIGSTOP)
    life.child.channel._ended()
    await life.until(lambda: life.deaths, 2)


def processes() -> set[str]:
    """The children of this process, zombies too."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


async def test_one_that_cannot_be_started(descriptors, monkeypatch):
    """A start that fails, at whatever step, leaves neither a process nor a descriptor."""
    before, others = descriptors(), processes()
    monkeypatch.setattr(child.sys, "executable", "/nonexistent")
    with pytest.raises(FileNotFoundError):
        Life()
    monkeypatch.undo()

    def refused(pid):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(child.os, "pidfd_open", refused)
    with pytest.raises(OSError, match="Too many"):
        Life()
    assert descriptors() == before
    assert processes() == others


def test_pace():
    """The first restart is at once, each further one after a longer pause up to a bound, until one has lived for long."""
    pace = Pace()
    pauses = [pace.delay(0.0) for _ in range(9)]
    assert pauses[:3] == [0.0, FIRST_PAUSE, 2 * FIRST_PAUSE]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE
    assert pace.delay(SETTLED) == 0.0
    assert pace.delay(0.0) == FIRST_PAUSE


def test_the_patience_of_a_start():
    """A child that was killed because it was not ready gives the next twice the time, up to a bound, until one was well."""
    pace = Pace()
    patience = []
    for _ in range(6):
        patience.append(pace.patience)
        pace.late()
        pace.delay(0.0)
    assert patience == [START, 2 * START, 4 * START, *[LONGEST_START] * 3]
    pace.delay(SETTLED)
    assert pace.patience == START


def test_environment(monkeypatch):
    """Children get what finds programs, words, time zones and trust, the checkout's path, and nothing else."""
    ours = {"PATH": "/bin", "TZ": "UTC", "SSL_CERT_FILE": "/ca"}
    found = child.environment(ours | {"LD_PRELOAD": "x", "PYTHONPATH": "/tmp/x", "TOKEN": "y"})
    here = str(Path(proxy.__file__).parent.parent)
    assert found == ours | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": here}
    monkeypatch.setattr(site, "getsitepackages", lambda: [here])
    assert "PYTHONPATH" not in child.environment({})
