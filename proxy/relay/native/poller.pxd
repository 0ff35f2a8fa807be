"""One edge-triggered epoll set, and what it calls."""

from libc.stdint cimport uint32_t

from proxy.relay.native.linux cimport epoll_event
from proxy.relay.native.timers cimport Timers

cdef enum:
    EVENTS = 64  # a round handles at most so many events, and so many calls


cdef struct Call:
    # Something to be called once, in a later part of a round.  It is in one list at most.
    int (*run)(Call *self) except -1
    void *owner  # a struct, or a borrowed reference: the owner withdraws the call before it ends
    Call *previous
    Call *next  # NULL: it is in no list


cdef struct Watch:
    # A descriptor in the set.  `ready` is called with the mask of each edge; with mask 0 if it asked to be called again.
    Call again  # the first member: a call of it is a watch
    int (*ready)(Watch *self, uint32_t mask) except -1
    int fd  # -1: not in the set


cdef inline void prepare_call(Call *call, int (*run)(Call *) except -1, void *owner) noexcept:
    """Begin with a call that nobody has asked for."""
    call.run = run
    call.owner = owner
    call.previous = call.next = NULL


cdef class Poller:
    cdef public double now
    cdef readonly Py_ssize_t faults, wakeups, events
    cdef readonly Timers timers
    cdef readonly dict shared  # what all sockets of this pump use: buffers, by name
    cdef int _epoll
    cdef object _loop, _clock, _wake
    cdef double _wakes  # the deadline that `_wake` is for
    cdef bint _pumping, _soon
    cdef epoll_event _events[EVENTS]
    cdef int _at, _count
    cdef Call _again, _after  # heads of lists
    cdef dict _watched, _called

    cdef void prepare(self, Watch *watch, int (*ready)(Watch *, uint32_t) except -1, void *owner) noexcept
    cdef int watch(self, Watch *watch, int fd, uint32_t events) except -1
    cdef void drop(self, Watch *watch) noexcept
    cdef void close_watched(self, Watch *watch) noexcept
    cdef void call_again(self, Watch *watch) noexcept
    cdef void call_soon(self, Call *call) noexcept
    cdef void call_after(self, Call *call) noexcept
    cdef void withdraw(self, Call *call) noexcept
    cdef double time(self) noexcept
    cpdef arm(self)
    cpdef fault(self, error)
    cdef void _append(self, Call *head, Call *call) noexcept
    cdef void _empty(self, Call *head) noexcept
    cdef void _ignore(self, Watch *watch) noexcept
    cdef void _take_back(self, handler) noexcept
    cdef int _settle(self) except -1
    cdef int _run_timers(self, double now) except -1
    cdef double _round(self, int count) except -1
    cdef int _run(self, Call *head, int most) except -1
    cdef void _pump_soon(self) noexcept
