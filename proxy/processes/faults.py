"""Unexpected exceptions in a process: each is logged and reported, and the process goes on."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

IN_FULL = 10  # exceptions that are reported in full, then one in a thousand

_log = logging.getLogger("steelyard.faults")


class Faults:
    """Counts the unexpected exceptions.  `tell(text)` gets one line for each that is reported."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._count = 0

    def guarded(self, act: Callable[[], None]) -> bool:
        """Call `act`; if it raises, report that and return False."""
        try:
            act()
        except Exception as error:
            self.add(error, "in a regular look")
            return False
        return True

    def on_exception(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:  # noqa: ARG002 - asyncio's
        """Report an exception that asyncio has caught: to be given to `loop.set_exception_handler`."""
        self.add(context.get("exception"), str(context.get("message", "in a callback")))

    def add(self, error: BaseException | None, where: str) -> None:
        """Report an exception."""
        self._count += 1
        if self._count <= IN_FULL or self._count % 1000 == 0:
            _log.error("fault %d: %s", self._count, where, exc_info=error)
            self._tell(f"internal error, the log has the traceback: {error!r}")
