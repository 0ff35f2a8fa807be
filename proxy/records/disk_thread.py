"""One thread for the file work of one place, so that a stuck or full disk stops nothing else.

A call on a file may take for ever, whatever flags the file was opened with.  The event loop hands such work to this
thread, which does one piece after the other, and waits for it no longer than it likes.  How much waits is bounded.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Full, Queue
from typing import Any, Final, TypeVar

QUEUE: Final = 1000
"""Pieces of work that may wait."""
LOOK: Final = 0.01
"""Seconds between two looks whether all is done."""

Result = TypeVar("Result")


class StuckError(OSError):
    """The file system has not answered in time."""


class DiskThread:
    """The thread, started with the first piece of work.

    It is a daemon thread: one that is stuck does not keep the process from its end.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: Queue[tuple[Future[Any], Callable[[], Any]] | None] = Queue(QUEUE)
        self._thread: threading.Thread | None = None
        self._began: float | None = None  # monotonic; when the work under way began

    def submit(self, work: Callable[[], Result]) -> "Future[Result]":
        """Have `work` done when its turn comes; StuckError where too much waits already.  Never blocks."""
        future: Future[Result] = Future()
        try:
            self._queue.put_nowait((future, work))
        except Full:
            raise StuckError(f"{QUEUE} pieces of work wait for the file system") from None
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        return future

    async def run(self, work: Callable[[], Result], patience: float) -> Result:
        """Return what `work` returns, or raise what it raises.

        StuckError after `patience` seconds, or at once where the work before it has taken longer than that already.
        Work that has not begun by then never begins.
        """
        if (lasted := self.busy_for()) >= patience:
            raise StuckError(f"the file system has not answered for {lasted:.0f} s")
        try:
            async with asyncio.timeout(patience):
                return await asyncio.wrap_future(self.submit(work))
        except TimeoutError:
            raise StuckError(f"the file system has not answered for {patience:g} s") from None

    def busy_for(self) -> float:
        """Return for how many seconds the work under way has lasted, 0 if there is none."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    def wait(self, patience: float) -> None:
        """Let what waits be done, for at most `patience` seconds; blocks."""
        until = time.monotonic() + patience
        while self._queue.unfinished_tasks and time.monotonic() < until:
            time.sleep(LOOK)

    async def close(self, patience: float) -> None:
        """Let what waits be done, for at most `patience` seconds, and end the thread."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._queue.unfinished_tasks:  # noqa: ASYNC110 - a thread does it
                    await asyncio.sleep(LOOK)
        if self._thread is not None:
            with contextlib.suppress(Full):
                self._queue.put_nowait(None)
            self._thread = None

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            future, work = entry
            if future.set_running_or_notify_cancel():
                self._began = time.monotonic()
                try:
                    result = work()
                except BaseException as error:  # it goes to the caller that waits for the result
                    self._began = None
                    future.set_exception(error)
                else:
                    self._began = None
                    future.set_result(result)
            del entry, future, work
            self._queue.task_done()
        self._queue.task_done()
