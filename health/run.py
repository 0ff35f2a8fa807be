"""A run of a probe: a coroutine without an asyncio task, and its deadline.

A task costs as much as a whole small probe, because each step goes through the loop's queue in a separate context.  The
steps of a run are plain calls.  The caller of `begin` makes the first one, and the awaited object makes each further one.

Laws:
- A run may await `Waits.ready` and asyncio futures.  It has no current task, so `asyncio.timeout` does not work in it.
- When `cancel` returns, the run has ended, wherever it waited: its `finally` blocks do not wait.  No cancellation is pending.
- The loop's exception handler gets any exception that a run raises.
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
        """End the run where it waits, by CancelledError.  Does nothing if it has ended.  A run must not cancel itself."""
        if self._ended:
            return
        future, self._future = self._future, None
        if future is not None:
            future.remove_done_callback(self._woken)
            future.cancel()
        self._step(self._coroutine.throw, asyncio.CancelledError())

    def cancelling(self) -> int:
        """Return how many cancellations are pending, as for a task."""
        return 0

    uncancel = cancelling

    def done(self) -> bool:
        """Returns True if the run has ended."""
        return self._ended

    def set_result(self, result: int) -> None:
        """Continue the run with the result of its wait."""
        self._step(self._coroutine.send, result)

    def __await__(self) -> Generator["Run", int, int]:
        """Wait for `set_result`, within the run itself."""
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
    """Raises TimeoutError in the running run or task if its block takes longer than `seconds`: a cheaper `asyncio.timeout`."""

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
        # Another caller may have cancelled it meanwhile: then that cancellation continues.
        if self._passed and self._whose.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _pass(self) -> None:
        self._passed = True
        self._whose.cancel()
