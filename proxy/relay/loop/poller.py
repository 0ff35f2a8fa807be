"""One edge-triggered epoll set, its unfinished work and its timers.

Its descriptor is the only data descriptor that the event loop sees.  The loop's own readers cannot serve relayed
sockets: they stop after one ICMP error, and hide a reset while reading is paused.

Laws:
- A handler is called with the event mask.  Because the set is edge-triggered, the handler reads until the socket is
  dry, or asks to be called `again`.  Such a call has mask 0.
- A handler whose socket was discarded or forgotten is not called any more, not even in the same round.
- A descriptor is closed at the end of the round, so that its number cannot go to a new socket while events of the old
  one are pending.
- Timers run between rounds, however high the load is.
- An exception costs only the event or timer that raised it.
"""

import asyncio
import logging
import select
import socket
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

from proxy.relay.loop.timers import Timer, Timers

Handler = Callable[[int], None]

IN = select.EPOLLIN
OUT = select.EPOLLOUT
PRI = select.EPOLLPRI
ERR = select.EPOLLERR
HUP = select.EPOLLHUP
RDHUP = select.EPOLLRDHUP

# A stream socket reports writability only after a short send, so all events are registered once.
STREAM = IN | OUT | RDHUP | PRI | select.EPOLLET
# A datagram socket reports writability whenever a packet has left it: 1,000 sends gave 1,000 edges with OUT and none
# without; 1,000 queries with answers gave 2,000 and 1,000.  A full send buffer drops a datagram: no code waits for OUT.
DATAGRAM = IN | select.EPOLLET

LISTENER = IN | select.EPOLLET

EVENTS_A_ROUND = 64
ROUNDS_A_PUMP = 16
BUDGET = 0.02  # s that a pump may take before the loop's other work (the channel to the master) runs
FAULTS_TOLD = 10  # faults that are logged in full; then one in a thousand
TIMER_GRAIN = 0.002  # s: deadlines that are closer together share a wake-up
LONGEST_SLEEP = 3600.0  # s; an event loop accepts no infinite time

log = logging.getLogger("steelyard.relay")


class Poller:
    """The epoll set of one worker.  Everything runs on the loop's thread, inside `pump`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = monotonic()
        self.faults = 0  # exceptions in handlers: each is a bug, and is logged
        self.wakeups = 0
        self.events = 0
        self.timers = Timers()
        self._loop = loop
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._again: OrderedDict[Handler, None] = OrderedDict()
        self._doomed: list[socket.socket] = []
        self._wake: asyncio.TimerHandle | None = None
        self._pumping = False
        self._soon = False  # the loop has a pump scheduled
        loop.add_reader(self._epoll.fileno(), self._ready)

    def register(self, sock: socket.socket, handler: Handler, events: int) -> None:
        """Watch `sock`, and call `handler(mask)` on each edge; events that are pending already cause the first one."""
        fd = sock.fileno()
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def forget(self, sock: socket.socket, handler: Handler | None = None) -> None:
        """Stop watching `sock`, and drop a pending call of `handler`; leave the socket open.

        A socket that another process shares must be forgotten before it is closed: the kernel would go on reporting it,
        under a number that may belong to another socket by then.
        """
        fd = sock.fileno()
        watched = self._handlers.pop(fd, None)
        if watched is not None:
            self._epoll.unregister(fd)
            self._again.pop(watched, None)
        if handler is not None:
            self._again.pop(handler, None)

    def discard(self, sock: socket.socket) -> None:
        """Stop watching a socket that no other process shares, and close it at the end of the round."""
        handler = self._handlers.pop(sock.fileno(), None)
        if handler is not None:
            self._again.pop(handler, None)
        self._doomed.append(sock)
        if not self._pumping:
            self._bury()

    def again(self, handler: Handler) -> None:
        """Call `handler(0)` after the pending ones; a handler asks for it if its budget ends before its socket is dry."""
        if not self._epoll.closed:
            self._again[handler] = None
            if not self._pumping:
                self._pump_soon()

    def waits(self, handler: Handler) -> bool:
        """Return True if a call of `handler` by `again` is pending."""
        return handler in self._again

    def at(self, when: float, callback: Callable[[float], None]) -> Timer:
        """Call `callback(now)` at `when` (monotonic seconds)."""
        timer = self.timers.add(when, callback)
        if not self._pumping:
            self._arm()
        return timer

    def pump(self) -> None:
        """Handle ready events within a budget."""
        self._soon = False
        if self._epoll.closed or self._pumping:
            return
        self.wakeups += 1
        self._pumping = True
        try:
            ends = 0.0
            for _ in range(ROUNDS_A_PUMP):
                events = self._epoll.poll(0, EVENTS_A_ROUND)
                if not events and not self._again:
                    break
                self.now = monotonic()
                if not ends:
                    ends = self.now + BUDGET
                if self._round(events) >= ends or self._epoll.closed:
                    break
        finally:
            self._settle()

    def close(self) -> None:
        """Close the set and cancel all pending calls and timers.  Its sockets belong to their handlers."""
        if self._epoll.closed:
            return
        self._loop.remove_reader(self._epoll.fileno())
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        self._bury()
        self._handlers.clear()
        self._again.clear()
        self.timers.clear()
        self._epoll.close()

    def _ready(self) -> None:
        """Pump because the set has events, unless a pump is scheduled already, which would do the same."""
        if not self._soon:
            self.pump()

    def _round(self, events: list[tuple[int, int]]) -> float:
        """Handle one batch of events, pending `again` calls and timers; return the time afterwards."""
        self.events += len(events)
        handlers = self._handlers
        for fd, mask in events:
            handler = handlers.get(fd)
            if handler is not None:
                try:
                    handler(mask)
                except Exception:
                    self._fault(handler)
        # The batch is done, so descriptors may be closed and go to new sockets, which handlers below may open.
        if self._doomed:
            self._bury()
        again = self._again
        for _ in range(min(len(again), EVENTS_A_ROUND)):
            if not again:
                break
            handler, _ = again.popitem(last=False)
            try:
                handler(0)
            except Exception:
                self._fault(handler)
        if self._doomed:
            self._bury()
        now = monotonic()
        self._run_timers(now)
        return now

    def _due(self) -> None:
        """Run the timers because the first deadline has come."""
        self._wake = None
        if self._epoll.closed:
            return
        self._pumping = True
        try:
            self._run_timers(monotonic())
        finally:
            self._settle()

    def _settle(self) -> None:
        """Leave the pump: schedule the next pump and wake-up with the loop."""
        self._pumping = False
        if self._doomed:
            self._bury()
        if not self._epoll.closed:
            if self._again:
                self._pump_soon()
            self._arm()

    def _pump_soon(self) -> None:
        if not self._soon:
            self._soon = True
            self._loop.call_soon(self.pump)

    def _bury(self) -> None:
        doomed, self._doomed = self._doomed, []
        for sock in doomed:
            sock.close()

    def _arm(self) -> None:
        deadline = self.timers.next_deadline()
        if deadline is None or self._epoll.closed:
            return
        # uvloop and asyncio both use CLOCK_MONOTONIC, like this module.
        if self._wake is not None:
            if self._wake.when() <= deadline + TIMER_GRAIN:
                return
            self._wake.cancel()
        delay = min(max(deadline - monotonic(), TIMER_GRAIN), LONGEST_SLEEP)
        self._wake = self._loop.call_at(self._loop.time() + delay, self._due)

    def _run_timers(self, now: float) -> None:
        deadline = self.timers.next_deadline()
        if deadline is not None and deadline <= now:
            self.now = now
            try:
                self.timers.expire(now)
            except Exception:
                self._fault(self._run_timers)
            if self._doomed:
                self._bury()

    def _fault(self, handler: object) -> None:
        """Count an exception in a handler, which is a bug, and log the first few.  It costs one event, not the worker."""
        self.faults += 1
        if self.faults <= FAULTS_TOLD or self.faults % 1000 == 0:
            log.error("fault %d in %r", self.faults, handler, exc_info=True)  # noqa: LOG014 - it is called inside one
