"""Runs long work in slices, so that the event loop can do other work between them.

The work is a generator: it yields wherever it can pause, and returns its result.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

SLICE: Final = 0.01  # s that the work may keep the loop
LIFE: Final = 10  # an answer is valid this many times as long as it took to make
LONGEST_LIFE: Final = 1.0  # s


def finished(work: Generator[None, None, T]) -> T:
    """Return the result of the work, which runs without a pause."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


async def in_slices(work: Generator[None, None, T], slice_: float = SLICE) -> T:
    """Return the result of the work, which keeps the loop for about `slice_` seconds at a time."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + slice_
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        if loop.time() >= ends:
            await asyncio.sleep(0)
            ends = loop.time() + slice_


class Shared(Generic[T]):
    """Shares one answer among all callers. It is valid for ten times as long as it took to make, at most a second.

    Making it therefore takes at most a tenth of the loop's time, for any number of callers.
    """

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        """Keep `make`, which makes the answer; an exception of it is raised in every caller that waits for it."""
        self._make = make
        self._making: asyncio.Task[T] | None = None
        self._until = float("-inf")

    async def get(self) -> T:
        """Return the valid answer, or the one that is being made."""
        making = self._making
        if making is None or (making.done() and asyncio.get_running_loop().time() >= self._until):
            making = self._making = asyncio.get_running_loop().create_task(self._made())
        # A caller that is cancelled must not cancel the answer for the others.
        return await asyncio.shield(making)

    def forget(self) -> None:
        """Forget the answer: something has changed that later callers must see."""
        self._making = None

    async def _made(self) -> T:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._until = float("-inf")
        answer = await self._make()
        ended = loop.time()
        self._until = ended + min(LONGEST_LIFE, LIFE * (ended - began))
        return answer
