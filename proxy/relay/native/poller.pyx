"""One edge-triggered epoll set, its unfinished work and its timers: the pump of a worker.

Its descriptor is the only data descriptor that the event loop sees.  The loop's own readers cannot serve relayed
sockets: they stop after one ICMP error, and hide a reset while reading is paused.

Laws:
- A watch is called with the event mask.  Because the set is edge-triggered, it reads until its socket is dry, or asks to
  be called `again`.  Such a call has mask 0.
- A watch that was dropped is not called any more, not even in the same round.
- A round has four parts: events, calls that were asked for, timers that are due, and last the calls `after` the round,
  which send what the others have gathered.  Each part has a bound, and what is above it comes in the next round.
- Timers run between rounds, however high the load is.
- An exception costs only the event, call or timer that raised it.

Whatever is in C contains its `Watch`, `Call` or `Timer`, and uses the functions of the `.pxd`.  Python registers sockets
and callables.
"""

import logging
import os
import select

from libc.errno cimport errno
from libc.math cimport isinf

from proxy.relay.native.linux cimport (
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, close, epoll_create1, epoll_ctl, epoll_wait, monotonic,
)
from proxy.relay.native.timers cimport Timers

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

EVENTS_A_ROUND = EVENTS
BUDGET = 0.02  # s that a pump may take before the loop's other work (the channel to the master) runs

cdef double _BUDGET = BUDGET
cdef int _ROUNDS = 16  # in one pump
cdef Py_ssize_t _FAULTS_TOLD = 10  # faults that are logged in full; then one in a thousand
cdef double _GRAIN = 0.002  # s: deadlines that are closer together share a wake-up
cdef double _LONGEST_SLEEP = 3600.0  # s; an event loop accepts no infinite time

log = logging.getLogger("steelyard.relay")


cdef class Poller:
    """The epoll set of one worker.  Everything runs on the loop's thread, inside `pump`."""

    def __cinit__(self):
        self._epoll = -1
        self._again.previous = self._again.next = &self._again
        self._after.previous = self._after.next = &self._after

    def __init__(self, loop, clock=None):
        """Watch on this event loop; `clock` returns monotonic seconds in place of the system's clock."""
        self._clock = clock
        self._loop = loop
        self._watched = {}
        self._called = {}
        self.timers = Timers()
        self.shared = {}
        self.now = self.time()
        self._epoll = epoll_create1(EPOLL_CLOEXEC)
        if self._epoll < 0:
            raise OSError(errno, os.strerror(errno))
        loop.add_reader(self._epoll, self._ready)

    def __dealloc__(self):
        if self._epoll >= 0:
            close(self._epoll)

    # -- for C

    cdef void prepare(self, Watch *watch, int (*ready)(Watch *, uint32_t) except -1, void *owner) noexcept:
        """Begin with a watch of no descriptor."""
        prepare_call(&watch.again, _call_watch, owner)
        watch.ready = ready
        watch.fd = -1

    cdef int watch(self, Watch *watch, int fd, uint32_t events) except -1:
        """Watch a descriptor; events that are pending already cause the first edge.  Raises OSError."""
        cdef epoll_event event
        event.events = events
        event.data.ptr = watch
        if epoll_ctl(self._epoll, EPOLL_CTL_ADD, fd, &event) < 0:
            raise OSError(errno, os.strerror(errno))
        watch.fd = fd
        return 0

    cdef void drop(self, Watch *watch) noexcept:
        """Stop watching, withdraw a pending call, and leave the descriptor open; harmless if nothing is watched.

        A description that another process shares must be dropped before it is closed: the kernel would go on reporting
        it.
        """
        cdef epoll_event event
        if watch.fd >= 0:
            if self._epoll >= 0:
                epoll_ctl(self._epoll, EPOLL_CTL_DEL, watch.fd, &event)
            self._ignore(watch)
            watch.fd = -1
        self.withdraw(&watch.again)

    cdef void close_watched(self, Watch *watch) noexcept:
        """Stop watching a descriptor that no other process shares, and close it."""
        if watch.fd >= 0:
            self._ignore(watch)
            close(watch.fd)
            watch.fd = -1
        self.withdraw(&watch.again)

    cdef void call_again(self, Watch *watch) noexcept:
        """Call `ready` with mask 0 after the pending ones: its budget ended before its socket was dry."""
        self.call_soon(&watch.again)

    cdef void call_soon(self, Call *call) noexcept:
        """Call once, after the events of this round or in the next one; those who ask first are first."""
        self._append(&self._again, call)

    cdef void call_after(self, Call *call) noexcept:
        """Call once at the end of this round, when all that it brings has been handled."""
        self._append(&self._after, call)

    cdef void withdraw(self, Call *call) noexcept:
        """Do not call; harmless if no call is pending."""
        if call.next != NULL:
            call.previous.next = call.next
            call.next.previous = call.previous
            call.previous = call.next = NULL

    cdef double time(self) noexcept:
        """Return the time (monotonic seconds)."""
        return monotonic() if self._clock is None else self._clock()

    cdef void _append(self, Call *head, Call *call) noexcept:
        if call.next == NULL and self._epoll >= 0:
            call.previous = head.previous
            call.next = head
            head.previous.next = call
            head.previous = call
            if not self._pumping:
                self._pump_soon()

    cdef void _empty(self, Call *head) noexcept:
        while head.next != head:
            self.withdraw(head.next)

    cdef void _ignore(self, Watch *watch) noexcept:
        """Take the events of a watch out of the round that is under way."""
        cdef int at
        for at in range(self._at, self._count):
            if self._events[at].data.ptr == watch:
                self._events[at].data.ptr = NULL

    # -- for Python

    def register(self, sock, handler, uint32_t events):
        """Watch `sock`, and call `handler(mask)` on each edge; events that are pending already cause the first one."""
        cdef _Watched watched = _Watched.__new__(_Watched)
        fd = sock.fileno()
        watched.handler = handler
        self.prepare(&watched.watch, _watched_ready, <void *>watched)
        self.watch(&watched.watch, fd, events)
        self._watched[fd] = watched

    def forget(self, sock, handler=None):
        """Stop watching `sock`, and drop a pending call of `handler`; leave the socket open.

        A socket that another process shares must be forgotten before it is closed: the kernel would go on reporting it.
        """
        cdef _Watched watched = self._watched.pop(sock.fileno(), None)
        if watched is not None:
            self.drop(&watched.watch)
            self._take_back(watched.handler)
        if handler is not None:
            self._take_back(handler)

    def discard(self, sock):
        """Stop watching a socket that no other process shares, and close it."""
        self.forget(sock)
        sock.close()

    def again(self, handler):
        """Call `handler(0)` after the pending ones; a handler asks for it if its budget ends before its socket is dry."""
        cdef _Called called
        if handler not in self._called and self._epoll >= 0:
            called = _Called.__new__(_Called)
            called.handler = handler
            called.poller = self
            prepare_call(&called.call, _called_run, <void *>called)
            self._called[handler] = called
            self.call_soon(&called.call)

    def waits(self, handler):
        """Return True if a call of `handler` by `again` is pending."""
        return handler in self._called

    def at(self, double when, callback):
        """Call `callback(now)` at `when` (monotonic seconds)."""
        timer = self.timers.add(when, callback)
        if not self._pumping:
            self.arm()
        return timer

    def pump(self):
        """Handle ready events within a budget."""
        cdef double ends = 0.0
        cdef int count
        self._soon = False
        if self._epoll < 0 or self._pumping:
            return
        self.wakeups += 1
        self._pumping = True
        try:
            for _ in range(_ROUNDS):
                count = epoll_wait(self._epoll, self._events, EVENTS, 0)
                if count <= 0 and self._again.next == &self._again and self._after.next == &self._after:
                    break
                self.now = self.time()
                if ends == 0.0:
                    ends = self.now + _BUDGET
                if self._round(max(count, 0)) >= ends or self._epoll < 0:
                    break
        finally:
            self._settle()

    def close(self):
        """Close the set and cancel all pending calls and timers.  Its sockets belong to their handlers."""
        if self._epoll < 0:
            return
        self._loop.remove_reader(self._epoll)
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        self._at = self._count = 0
        self._empty(&self._again)
        self._empty(&self._after)
        self._watched.clear()
        self._called.clear()
        self.timers.clear()
        close(self._epoll)
        self._epoll = -1

    def _ready(self):
        """Pump because the set has events, unless a pump is scheduled already, which would do the same."""
        if not self._soon:
            self.pump()

    cdef void _take_back(self, handler) noexcept:
        cdef _Called called = self._called.pop(handler, None)
        if called is not None:
            self.withdraw(&called.call)

    cdef double _round(self, int count) except -1:
        """Handle one batch of events, what was asked for, due timers, and the calls after those; return the time then."""
        cdef Watch *watch
        cdef double now
        self.events += count
        self._at, self._count = 0, count
        while self._at < self._count:
            watch = <Watch *>self._events[self._at].data.ptr
            self._at += 1
            if watch != NULL:
                try:
                    watch.ready(watch, self._events[self._at - 1].events)
                except Exception as error:
                    self.fault(error)
        self._at = self._count = 0
        self._run(&self._again, EVENTS)
        now = self.time()
        self._run_timers(now)
        self._run(&self._after, EVENTS)
        return now

    cdef int _run(self, Call *head, int most) except -1:
        """Run the calls that are in a list now, and `most` of them."""
        cdef Call *call
        cdef Call *last = head.previous
        while most and head.next != head:
            call = head.next
            most = 0 if call == last else most - 1
            self.withdraw(call)
            try:
                call.run(call)
            except Exception as error:
                self.fault(error)
        return 0

    def _due(self):
        """Run the timers because the first deadline has come."""
        self._wake = None
        if self._epoll < 0:
            return
        self._pumping = True
        try:
            self._run_timers(self.time())
            self._run(&self._after, EVENTS)
        finally:
            self._settle()

    cdef int _settle(self) except -1:
        """Leave the pump: schedule the next pump and wake-up with the loop."""
        self._pumping = False
        if self._epoll >= 0:
            if self._again.next != &self._again or self._after.next != &self._after:
                self._pump_soon()
            self.arm()
        return 0

    cdef void _pump_soon(self) noexcept:
        if not self._soon:
            self._soon = True
            self._loop.call_soon(self.pump)

    cpdef arm(self):
        """Let the loop wake the poller at the first deadline."""
        cdef double deadline = self.timers.soonest()
        if isinf(deadline) or self._epoll < 0:
            return
        # uvloop and asyncio both use CLOCK_MONOTONIC, like this module.
        if self._wake is not None:
            # The handle itself may not know its time: if that has come already, uvloop returns one of another class.
            if self._wakes <= deadline + _GRAIN:
                return
            self._wake.cancel()
        delay = min(max(deadline - self.time(), _GRAIN), _LONGEST_SLEEP)
        self._wakes = deadline
        self._wake = self._loop.call_at(self._loop.time() + delay, self._due)

    cdef int _run_timers(self, double now) except -1:
        if self.timers.soonest() <= now:
            self.now = now
            try:
                self.timers.run(now, 1000)
            except Exception as error:
                self.fault(error)
        return 0

    cpdef fault(self, error):
        """Count an exception in a handler, which is a bug, and log the first few.  It costs one event, not the worker."""
        self.faults += 1
        if self.faults <= _FAULTS_TOLD or self.faults % 1000 == 0:
            log.error("fault %d", self.faults, exc_info=error)


cdef class _Watched:
    """A Python handler of a socket's events."""

    cdef Watch watch
    cdef object handler


cdef class _Called:
    """A Python handler that asked to be called again."""

    cdef Call call
    cdef object handler
    cdef Poller poller


cdef int _call_watch(Call *call) except -1:
    cdef Watch *watch = <Watch *>call
    watch.ready(watch, 0)
    return 0


cdef int _watched_ready(Watch *watch, uint32_t mask) except -1:
    watched = <_Watched>watch.again.owner
    watched.handler(mask)
    return 0


cdef int _called_run(Call *call) except -1:
    called = <_Called>call.owner
    called.poller._called.pop(called.handler, None)
    called.handler(0)
    return 0
