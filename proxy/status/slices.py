"""Work that takes long is done in slices, between which the loop does what else is due.

Such work is a generator: it yields wherever it may pause, and returns its result.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

SLICE: Final = 0.01  # s that such work may keep the loop
LIFE: Final = 10  # times what it took to make that an answer serves
LONGEST_LIFE: Final = 1.0  # s


def finished(work: Generator[None, None, T]) -> T:
    """Return the result of work that is done without a pause."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


async def in_slices(work: Generator[None, None, T], slice_: float = SLICE) -> T:
    """Return the result of work that keeps the loop for about `slice_` seconds at a time."""
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
    """One answer for all who ask: made once, it serves for ten times as long as that took, a second at most.

    However many ask, and however often, a tenth of the loop's time goes into it.
    """

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        """Take what makes the answer; what it raises, everybody gets who waits for it."""
        self._make = make
        self._making: asyncio.Task[T] | None = None
        self._until = float("-inf")

    async def get(self) -> T:
        """Return the answer that holds, or the one that is being made."""
        making = self._making
        if making is None or (making.done() and asyncio.get_running_loop().time() >= self._until):
            making = self._making = asyncio.get_running_loop().create_task(self._made())
        # Whoever leaves does not take the answer from the others.
        return await asyncio.shield(making)

    def forget(self) -> None:
        """Something has changed that whoever asks from now on is to see."""
        self._making = None

    async def _made(self) -> T:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._until = float("-inf")
        answer = await self._make()
        ended = loop.time()
        self._until = ended + min(LONGEST_LIFE, LIFE * (ended - began))
        return answer
