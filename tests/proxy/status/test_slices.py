"""Work in slices, and answers that are made once for all who ask."""

import asyncio

import pytest

from proxy.status.slices import Shared, finished, in_slices


def counting(steps):
    """Return work of so many steps, whose result is their number."""
    for _ in range(steps):
        yield
    return steps


def test_without_a_pause():
    """Work can be done at once, too."""
    assert finished(counting(5)) == 5


async def test_the_loop_has_its_turns():
    """R14: between two slices the loop does what else is due: a slice of no length is one step."""
    turns = 0

    async def others():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    beside = asyncio.ensure_future(others())
    assert await in_slices(counting(50), 0.0) == 50
    beside.cancel()
    assert turns >= 49


class Answers:
    """Makes answers, each of which waits until it may end."""

    def __init__(self):
        self.made = 0
        self.may_end = asyncio.Event()

    async def make(self):
        """Make the next one."""
        self.made += 1
        number = self.made
        await self.may_end.wait()
        if number == 3:
            raise ValueError("the third")
        return number


async def test_made_once_for_all_who_ask():
    """R14: who asks while an answer is made waits for that one, however many they are; who leaves takes it from nobody."""
    answers = Answers()
    shared = Shared(answers.make)
    asking = [asyncio.ensure_future(shared.get()) for _ in range(24)]
    await asyncio.sleep(0)
    asking.pop(0).cancel()
    answers.may_end.set()
    assert await asyncio.gather(*asking) == [1] * 23
    assert answers.made == 1


async def test_it_serves_for_ten_times_what_it_took():
    """R14: an answer that took long serves for a while; one that is forgotten does not, not even while it is made."""
    answers = Answers()
    shared = Shared(answers.make)
    first = asyncio.ensure_future(shared.get())
    await asyncio.sleep(0.02)
    shared.forget()
    second = asyncio.ensure_future(shared.get())
    await asyncio.sleep(0.2)
    answers.may_end.set()
    assert (await first, await second) == (1, 2)
    assert await shared.get() == 2
    shared.forget()
    with pytest.raises(ValueError, match="the third"):
        await shared.get()
    assert await shared.get() == 4
