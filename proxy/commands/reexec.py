"""The commands `reexec` and `take-over`: a successor takes the place of this daemon."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from proxy.control.server import ControlServer, Handed, Request
from proxy.control.wire import BAD_CONFIG, FAILED, ControlError
from proxy.succession.handing_over import EXIT_CONFIG, NotHandedOverError

Step = Callable[[str], None]


def register_succession(
    control: ControlServer, reexec: Callable[[Step], Awaitable[int]], give_place: Callable[[], Any]
) -> None:
    """Register both.

    `reexec(step)` starts a new version and returns its process; `give_place()` returns the socket for a daemon that was
    started by others.  Both raise NotHandedOverError.
    """

    async def answer(request: Request) -> AsyncIterator[Mapping[str, Any]]:
        del request  # it takes no arguments
        steps: asyncio.Queue[str | None] = asyncio.Queue()

        async def replace() -> int:
            try:
                return await reexec(steps.put_nowait)
            finally:
                steps.put_nowait(None)

        replacing = asyncio.get_running_loop().create_task(replace(), name="reexec")
        # It goes on if the client leaves: then nobody asks for its outcome.
        replacing.add_done_callback(lambda done: done.cancelled() or done.exception())
        while (step := await steps.get()) is not None:
            yield {"step": step, "more": True}
        try:
            pid = await replacing
        except NotHandedOverError as error:
            raise ControlError(str(error), BAD_CONFIG if error.code == EXIT_CONFIG else FAILED) from None
        yield {"pid": pid, "changed": True, "more": False}

    def take_over(request: Request) -> Handed:
        del request
        try:
            return Handed({"pid": os.getpid()}, give_place())
        except NotHandedOverError as error:
            raise ControlError(str(error)) from None

    control.register("reexec", answer, mutates=True)
    control.register("take-over", take_over, mutates=True)
