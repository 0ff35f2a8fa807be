"""Tests of the thread that does file work."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from proxy.records.disk_thread import QUEUE, DiskThread, StuckError


class StuckFile:
    """A read from a pipe that nobody writes to, as from a file system that does not answer, until `free`."""

    def __init__(self):
        self._reading, self._writing = os.pipe()
        self.entered = threading.Event()

    def read(self):
        """Block, in the kernel."""
        self.entered.set()
        return os.read(self._reading, 1)

    def free(self):
        """Let all reads return."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1


@pytest.fixture
def stuck():
    file = StuckFile()
    yield file
    file.free()


async def test_the_result_and_the_error_of_the_work():
    """Whoever waits gets what the work returns or raises, and the work was done in order."""
    disk, done = DiskThread("disk"), []
    disk.submit(lambda: done.append(1))
    assert await disk.run(lambda: done.append(2) or "result", 10) == "result"
    with pytest.raises(FileNotFoundError):
        await disk.run(lambda: Path("/nowhere/at/all").stat(), 10)
    assert done == [1, 2]
    await disk.close(10)


async def test_a_file_system_that_does_not_answer(stuck):
    """R15: work that hangs is waited for as long as its deadline says; the loop goes on, and the next one fails at once."""
    disk = DiskThread("disk")
    with pytest.raises(StuckError, match=r"has not answered for 0\.1 s"):
        await disk.run(stuck.read, 0.1)
    begun = []
    with pytest.raises(StuckError, match="has not answered"):
        await disk.run(lambda: begun.append(1), 0.1)
    stuck.free()
    assert await disk.run(lambda: begun, 10) == []
    await disk.close(10)


async def test_work_that_was_given_up_never_begins(stuck):
    """R15: work whose deadline passed while it waited is not done later."""
    disk, begun = DiskThread("disk"), []
    disk.submit(stuck.read)
    with pytest.raises(StuckError):
        await disk.run(lambda: begun.append(1), 0.05)
    stuck.free()
    await disk.run(lambda: None, 10)
    assert begun == []
    await disk.close(10)


async def test_what_waits_is_bounded(stuck):
    """R15: no more than QUEUE pieces wait for a stuck file system: the next is refused, without a wait."""
    disk = DiskThread("disk")
    disk.submit(stuck.read)
    stuck.entered.wait(10)
    for _ in range(QUEUE):
        disk.submit(lambda: None)
    with pytest.raises(StuckError, match="wait for the file system"):
        disk.submit(lambda: None)
    stuck.free()
    await disk.close(10)


async def test_the_end_waits_for_what_is_queued_and_not_for_ever(stuck):
    """At its end the thread does what waits, but a stuck file system holds the end up no longer than its deadline."""
    disk, done = DiskThread("disk"), []
    disk.submit(lambda: done.append(1))
    await disk.close(10)
    assert done == [1]
    disk = DiskThread("disk")
    disk.submit(stuck.read)
    async with asyncio.timeout(10):
        await disk.close(0.05)
