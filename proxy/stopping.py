"""How a daemon stops: with the door open where nobody else would serve, in order where another host does, or at once.

- SIGTERM: virtual addresses are handed over to another host.  If none takes them, new clients are served until another
  daemon takes over, or stop-timeout ends; then what is open is cut.
- SIGINT, and a daemon whose addresses are gone: no new clients, and what is open may finish within stop-timeout.
- A second signal, or SIGQUIT: at once.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from health.units import format_duration
from proxy.backends.effective import Running
from proxy.host.service_manager import ServiceManager
from proxy.pair.pair import Redundancy
from proxy.processes.faults import Faults
from proxy.records.timeline import Timeline
from proxy.stats.columns import Columns
from proxy.stats.layout import SESSIONS
from proxy.workers.listeners import Listeners
from proxy.workers.supervisor import Supervisor

if TYPE_CHECKING:
    from proxy.succession.succession import Succession

LOOK = 0.1  # s between two looks whether a successor has come
GRACE = 1.0  # s after stop-timeout until the master kills the remaining children
LAST_ACTS = 90.0  # s beyond stop-timeout that a stop may take: a hand-over, and then notify scripts that hang


class Stopping:
    """The end of a daemon; `ended` is set when nothing is left to wait for."""

    def __init__(
        self,
        running: Running,
        columns: Columns,
        workers: Supervisor,
        listeners: Listeners,
        redundancy: Redundancy,
        timeline: Timeline,
        manager: ServiceManager,
        faults: Faults,
        summary: Callable[[], str],
    ) -> None:
        """`summary()` returns the daemon's state in words, for the service manager."""
        self._running = running
        self._columns = columns
        self._workers = workers
        self._listeners = listeners
        self._redundancy = redundancy
        self._timeline = timeline
        self._manager = manager
        self._faults = faults
        self._summary = summary
        self._loop = asyncio.get_running_loop()
        self._leaving: asyncio.Task[None] | None = None
        self.hurry: Callable[[], None] = lambda: None
        """Called when nobody is to wait for programs that are told of changes."""
        self.succession: Succession | None = None
        """Who follows this daemon; set once, before any signal is taken."""
        self.begun = False
        """Whether the daemon is stopping."""
        self.closed = False
        """Whether it takes no new clients any more."""
        self.waits = False
        """Whether it serves until a successor takes over."""
        self.ended = asyncio.Event()

    def at_once(self, why: str) -> None:
        """Stop without waiting for anything."""
        self._tell(f"{why}: stopping at once", warning=True)
        self.begun = True
        self.hurry()
        self._manager.notify(stopping=True, extend=LAST_ACTS, status=self._summary())
        self.ended.set()

    def signalled(self, *, waits: bool) -> None:
        """Stop; with `waits` new clients are served until a successor takes over, if no other host does."""
        if self.succession is not None and self.succession.aside:
            self.succession.hurry()
            return
        if self.begun:
            if not self.ended.is_set():
                self._tell("second stop signal: stopping at once", warning=True)
            self._redundancy.hurry()
            self.hurry()
            self.ended.set()
        if self.ended.is_set():
            return
        self.begun = True
        timeout = self._running.config.node.stop_timeout
        self._manager.notify(stopping=True, extend=timeout + LAST_ACTS, status=self._summary())
        self._leaving = self._loop.create_task(self._leave(waits=waits and bool(self._running.services)))

    def succeeded(self, pid: int) -> None:
        """Take note that the process `pid` has taken over."""
        self._manager.notify(mainpid=pid)
        self.begun = self.closed = True
        self.waits = False

    async def _leave(self, *, waits: bool) -> None:
        """Hand over the virtual addresses, so that no new clients come, then drain the workers.

        With `waits` the door stays open if no other host takes the addresses.
        """
        timeout = self._running.config.node.stop_timeout
        try:
            if self.succession is not None:
                await self.succession.cancel("it is to stop")
            if waits and not await self._redundancy.yield_addresses("stopping"):
                await self._wait_for_successor(timeout)
                return
            self._tell(f"stopping: what is open may finish within {format_duration(timeout)}")
            await self._redundancy.leave(hand_over=True)
        except Exception as error:
            self._faults.add(error, "on leaving the pair")  # and stop all the same
        if not self.ended.is_set():
            self._drain(timeout)

    async def _wait_for_successor(self, timeout: float) -> None:  # noqa: ASYNC109 - the node's stop-timeout
        """Serve new clients until another daemon takes over, or `timeout` seconds have passed: then cut what is open."""
        self._tell(f"stopping: new clients are served until a successor starts, at most {format_duration(timeout)}")
        self.waits, until = True, self._loop.time() + timeout
        while self._is_followed() or self._loop.time() < until:
            if self._manager.keeps_descriptors and not self._columns.sum(SESSIONS):
                break  # the next clients wait in the sockets that the manager keeps
            await asyncio.sleep(LOOK)
        if self.waits and not self.ended.is_set():
            self.waits = False
            if self._columns.sum(SESSIONS):
                self._tell("no successor has come: what is open is cut")
            self._drain(0.0)

    def _is_followed(self) -> bool:
        """Returns True if a successor is about to take over."""
        return self.succession is not None and self.succession.busy

    def _drain(self, timeout: float) -> None:
        """Take no new clients, let what is open finish within `timeout` seconds, and end.

        If the service manager keeps the sockets, the clients that wait in them are left to the next daemon.
        """
        self.closed = True
        self._workers.drain(timeout, hand_over=self._manager.keeps_descriptors)
        if self.succession is not None:
            self.succession.drain(timeout)
        # Each worker holds its sockets until it has taken the queued connections; the master closes its own, so
        # that the kernel queues no new ones.
        self._listeners.close()
        self._loop.call_later(timeout + GRACE, self.ended.set)

    def _tell(self, text: str, *, warning: bool = False) -> None:
        name = self._running.config.node.name
        self._timeline.add("stop", name, text, level="warning" if warning else "info")
