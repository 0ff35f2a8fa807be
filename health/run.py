"""A run of a probe: a coroutine that needs no asyncio task, and the deadline of what it does.

A task costs as much as all that a small probe does: each step goes through the loop's queue, in a context of its own.  The
steps of a run are calls, the first one by who begins it, each further one by what it waited for.

Laws:
- It may await `Waits.ready` and futures of asyncio; what asks for the current task, as `asyncio.timeout` does, finds none.
- `cancel` has ended it when it returns, wherever it waits: none of its `finally` waits, and no cancellation is pending.
- What it raises is told to the loop's handler.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any

from health.waiting import Moment, Waits


class Run:
    """A coroutine, from its `begin` to its end."""

    __slots__ = ("_coroutine", "_ended", "_future", "_waits")

    def __init__(self, waits: Waits, coroutine: Coroutine[Any, Any, None]) -> None:
        self._waits = waits
        self._coroutine = coroutine
        self._future: asyncio.Future[Any] | None = None
        self._ended = False

    def begin(self) -> None:
        """Run to the first wait."""
        self._step(self._coroutine.send, None)

    def cancel(self) -> None:
        """End it where it waits, by CancelledError.  Not for itself to call; harmless once it has ended."""
        if self._ended:
            return
        future, self._future = self._future, None
        if future is not None:
            future.remove_done_callback(self._woken)
            future.cancel()
        self._step(self._coroutine.throw, asyncio.CancelledError())

    def cancelling(self) -> int:
        """How many cancellations are pending, as a task tells."""
        return 0

    uncancel = cancelling

    def done(self) -> bool:
        """Whether it has ended."""
        return self._ended

    def set_result(self, result: int) -> None:
        """Go on: what it waited for has come."""
        self._step(self._coroutine.send, result)

    def __await__(self) -> Generator["Run", int, int]:
        """Wait, within the run itself, for `set_result`."""
        return (yield self)

    def _woken(self, _: asyncio.Future[Any]) -> None:
        self._future = None
        self._step(self._coroutine.send, None)

    def _step(self, resume: Callable[[Any], Any], what: object) -> None:
        """Run from one wait to the next."""
        waits = self._waits
        beneath, waits.running = waits.running, self
        try:
            awaited = resume(what)
        except (StopIteration, asyncio.CancelledError):
            self._ended = True
        except Exception as error:
            self._ended = True
            waits.loop.call_exception_handler({"message": f"fault in {self._coroutine!r}", "exception": error})
        else:
            if awaited is not self:
                awaited._asyncio_future_blocking = False  # noqa: SLF001 - as a task does
                awaited.add_done_callback(self._woken)
                self._future = awaited
        finally:
            waits.running = beneath


class Deadline(Moment):
    """Ends what the running run or task does within its block after `seconds`, by TimeoutError: `asyncio.timeout`, cheaper."""

    __slots__ = ("_cancelling", "_passed", "_seconds", "_whose")

    def __init__(self, waits: Waits, seconds: float) -> None:
        self._waits = waits
        self.callback = self._pass
        self._seconds = seconds
        self._passed = False

    def __enter__(self) -> None:
        waits = self._waits
        whose = waits.running or asyncio.current_task(waits.loop)
        if whose is None:
            raise RuntimeError("a deadline is for a run or a task")
        self._whose = whose
        self._cancelling = whose.cancelling()
        waits.add(waits.loop.time() + self._seconds, self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.cancel()
        # Whoever else cancelled it meanwhile wants it to end: theirs goes on.
        if self._passed and self._whose.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _pass(self) -> None:
        self._passed = True
        self._whose.cancel()
