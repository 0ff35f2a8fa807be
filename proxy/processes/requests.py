"""Questions to children, each with a number, and the answers that are waited for."""

import asyncio
from collections.abc import Callable

from proxy.processes.child import Child
from proxy.processes.messages import common as messages

Question = Callable[[int], messages.Message]
"""What makes a message of its number."""


class Questions:
    """Those that are open.  Whoever asks waits no longer than he says, and not at all for a child that is gone."""

    def __init__(self) -> None:
        self._number = 0
        self._open: dict[int, tuple[Child, asyncio.Future[messages.Message | None]]] = {}

    async def ask(self, child: Child, question: Question, patience: float) -> messages.Message | None:
        """Return the answer, None if there is none within `patience` seconds."""
        self._number += 1
        number = self._number
        future: asyncio.Future[messages.Message | None] = asyncio.get_running_loop().create_future()
        self._open[number] = child, future
        try:
            child.send(question(number))
            async with asyncio.timeout(patience):
                return await future
        except TimeoutError:
            return None
        finally:
            del self._open[number]

    def answered(self, child: Child, message: messages.Message) -> None:
        """Hand an answer to the caller that asked that child."""
        asked, future = self._open.get(getattr(message, "number", -1), (None, None))
        if asked is child and future is not None and not future.done():
            future.set_result(message)

    def gone(self, child: Child) -> None:
        """End the waits for a child's answers: there will be none."""
        for asked, future in self._open.values():
            if asked is child and not future.done():
                future.set_result(None)
