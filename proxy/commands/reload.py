"""The command `reload`: puts the changed file into force, or says which steps that would take."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from proxy.backends.errors import FailedError, RefusedError
from proxy.commands.arguments import answered, flag
from proxy.config.changes import Step
from proxy.config.diagnostics import ConfigError
from proxy.control.wire import BAD_CONFIG, ControlError

if TYPE_CHECKING:
    from proxy.control.server import Request
    from proxy.reload import Outcome
    from proxy.reload_queue import ReloadQueue

ROWS: Final = 50
"""Steps in one line of the answer."""
_TURNS: Final = {
    "now": "reloading",
    "next": "another reload runs: this one is next",
    "joined": "another reload runs and one waits: this one joins the one that waits",
}


class ReloadCommand:
    """The handler of `reload`; `plan()` returns the steps without doing them."""

    def __init__(self, queue: "ReloadQueue", plan: Callable[[], Awaitable[Sequence[Step]]]) -> None:
        self._queue = queue
        self._plan = plan

    async def reload(self, request: "Request") -> AsyncIterator[Mapping[str, Any]]:
        """Answer `reload`: with `dry` the steps alone; with `strict` nothing is done if a step needs a new process."""
        dry, strict, began = flag(request, "dry"), flag(request, "strict"), time.monotonic()
        try:
            if dry:
                async for line in _lines(await self._plan()):
                    yield line
                yield {"changed": False, "more": False}
                return
            with answered():
                ticket = self._queue.request(strict=strict)
            yield {"turn": ticket.turn, "text": _TURNS[ticket.turn], "more": True}
            outcome: Outcome = await asyncio.shield(ticket.outcome)
        except ConfigError as error:
            raise ControlError(
                str(error), BAD_CONFIG, diagnostics=[one.as_dict() for one in error.diagnostics]
            ) from None
        except RefusedError as error:
            raise ControlError(str(error), BAD_CONFIG) from None
        except FailedError as error:
            raise ControlError(str(error)) from error
        async for line in _lines(outcome.steps):
            yield line
        yield {
            "changed": bool(outcome.steps),
            "generation": outcome.generation,
            "faults": outcome.faults,
            "seconds": round(time.monotonic() - began, 3),
            "more": False,
        }


async def _lines(steps: Sequence[Step]) -> AsyncIterator[Mapping[str, Any]]:
    for first in range(0, len(steps), ROWS):
        yield {"steps": [step.row() for step in steps[first : first + ROWS]], "more": True}
        await asyncio.sleep(0)
