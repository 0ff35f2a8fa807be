"""Lets reloads run one after the other: one runs, one waits, and who comes then joins the one that waits."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Literal

from proxy.backends.errors import FailedError, RefusedError
from proxy.config.diagnostics import ConfigError
from proxy.reload import Outcome

Turn = Literal["now", "next", "joined"]
"""Whether a reload runs now, runs after the one that runs, or is the one that another caller waits for already."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A reload that was asked for."""

    turn: Turn
    outcome: "asyncio.Task[Outcome]"


class ReloadQueue:
    """The reload that runs and the one that waits.

    `run(strict)` does one; `on_fault(error)` gets each exception of it that is no refusal.
    """

    def __init__(self, run: Callable[[bool], Awaitable[Outcome]], on_fault: Callable[[BaseException], None]) -> None:
        self._run = run
        self._on_fault = on_fault
        self._running: asyncio.Task[Outcome] | None = None
        self._waiting: tuple[bool, asyncio.Task[Outcome]] | None = None

    def request(self, *, strict: bool) -> Ticket:
        """Have a reload done; it goes on even if its caller leaves.

        Raises RefusedError if one waits that is more or less strict.
        """
        if self._waiting is None:
            if self._running is None or self._running.done():
                self._running = self._task(self._now(strict))
                return Ticket("now", self._running)
            self._waiting = strict, self._task(self._after(self._running, strict))
            return Ticket("next", self._waiting[1])
        if self._waiting[0] != strict:
            raise RefusedError(f"another reload waits, {'without' if strict else 'with'} --strict: try again after it")
        return Ticket("joined", self._waiting[1])

    def _task(self, work: Coroutine[None, None, Outcome]) -> "asyncio.Task[Outcome]":
        task = asyncio.get_running_loop().create_task(work, name="reload")
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Outcome]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ConfigError | RefusedError | FailedError):
            self._on_fault(error)

    async def _now(self, strict: bool) -> Outcome:
        return await self._run(strict)

    async def _after(self, before: "asyncio.Task[Outcome]", strict: bool) -> Outcome:
        await asyncio.wait([before])
        if self._waiting is not None:
            self._running, self._waiting = self._waiting[1], None
        return await self._run(strict)

    def close(self) -> None:
        """End what runs and what waits."""
        for task in (self._running, self._waiting[1] if self._waiting is not None else None):
            if task is not None:
                task.cancel()
