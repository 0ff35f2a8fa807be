"""Reloads that are asked for at the same time."""

import asyncio

import pytest

from proxy.backends.errors import FailedError, RefusedError
from proxy.reload import Outcome
from proxy.reload_queue import ReloadQueue


class Runs:
    """Reloads that end when they are let; `ran` has how strict each was, `most` how many ran at once."""

    def __init__(self):
        self.ran, self.now, self.most = [], 0, 0
        self.go = asyncio.Event()
        self.error = None

    async def run(self, strict):
        """Count one more that runs."""
        self.now += 1
        self.most = max(self.most, self.now)
        self.ran.append(strict)
        try:
            await self.go.wait()
            if self.error is not None:
                raise self.error
        finally:
            self.now -= 1
        return Outcome([], len(self.ran), [])


async def test_two_queue_and_a_third_joins():
    """R5: the second reload begins when the first has ended; a third is the second one, and gets its outcome."""
    runs = Runs()
    queue = ReloadQueue(runs.run, pytest.fail)
    tickets = [queue.request(strict=False) for _ in range(4)]
    assert [ticket.turn for ticket in tickets] == ["now", "next", "joined", "joined"]
    for _ in range(5):
        await asyncio.sleep(0)
    assert (len(runs.ran), runs.now) == (1, 1)
    runs.go.set()
    outcomes = [await ticket.outcome for ticket in tickets]
    assert [outcome.generation for outcome in outcomes] == [1, 2, 2, 2]
    assert (len(runs.ran), runs.most) == (2, 1)


async def test_one_after_the_end_is_a_new_one():
    """A reload that is asked for when none runs begins at once."""
    runs = Runs()
    runs.go.set()
    queue = ReloadQueue(runs.run, pytest.fail)
    for number in (1, 2, 3):
        ticket = queue.request(strict=False)
        assert ticket.turn == "now"
        assert (await ticket.outcome).generation == number


async def test_while_the_second_runs_a_third_waits():
    """When the one that waited runs, the next caller gets a reload of its own, which reads the file anew."""
    runs = Runs()
    queue = ReloadQueue(runs.run, pytest.fail)
    first, second = queue.request(strict=False), queue.request(strict=False)
    runs.go.set()
    await first.outcome
    runs.go.clear()
    await asyncio.wait([second.outcome], timeout=0.01)
    assert len(runs.ran) == 2
    third = queue.request(strict=False)
    assert third.turn == "next"
    runs.go.set()
    assert (await second.outcome).generation == 2
    assert (await third.outcome).generation == 3


async def test_one_that_comes_as_the_first_ends():
    """R5: a reload that is asked for in the moment in which the first ends joins the one that waits: two never run at once."""
    runs = Runs()
    queue = ReloadQueue(runs.run, pytest.fail)
    first, second = queue.request(strict=False), queue.request(strict=False)
    third = []
    first.outcome.add_done_callback(lambda _: third.append(queue.request(strict=False)))
    runs.go.set()
    await second.outcome
    assert third[0].turn == "joined"
    assert (await third[0].outcome, runs.most, len(runs.ran)) == (await second.outcome, 1, 2)


async def test_a_strict_one_does_not_join_another():
    """A caller that wants it stricter than the one that waits is refused, as it would get less than it asked for."""
    runs = Runs()
    queue = ReloadQueue(runs.run, pytest.fail)
    tickets = [queue.request(strict=False), queue.request(strict=False)]
    with pytest.raises(RefusedError, match="without --strict"):
        queue.request(strict=True)
    runs.go.set()
    await asyncio.gather(*(ticket.outcome for ticket in tickets))


async def test_the_next_runs_after_a_refusal():
    """A reload that is refused stops no other, and its error is no fault of ours."""
    runs = Runs()
    queue = ReloadQueue(runs.run, pytest.fail)
    first, second = queue.request(strict=False), queue.request(strict=True)
    runs.error = FailedError("taken")
    runs.go.set()
    with pytest.raises(FailedError):
        await first.outcome
    with pytest.raises(FailedError):
        await second.outcome
    assert runs.ran == [False, True]


async def test_a_bug_is_reported():
    """An exception that is no refusal is reported as a fault, even if nobody waits for the outcome."""
    runs, faults = Runs(), []
    queue = ReloadQueue(runs.run, faults.append)
    runs.error = ZeroDivisionError()
    runs.go.set()
    await asyncio.wait([queue.request(strict=False).outcome])
    await asyncio.sleep(0)
    assert faults == [runs.error]
