"""How long DNS queries wait: phases that end a fixed time after a query began."""

from proxy.relay.native.dns_query cimport Waiting
from proxy.relay.native.timers cimport Deadline, Timers

cdef enum:
    PHASES = 16


cdef struct Phase:
    Waiting head
    Deadline timer
    int number
    void *phases


cdef class Phases:
    cdef Phase _phases[PHASES]
    cdef double _ends[PHASES]
    cdef int _count
    cdef Timers _timers
    cdef int (*_silent)(void *owner, Waiting *one, double now) except -1
    cdef int (*_over)(void *owner, Waiting *one) except -1
    cdef void *_owner
    cdef readonly Py_ssize_t count

    cdef void call(
        self, int (*silent)(void *, Waiting *, double) except -1, int (*over)(void *, Waiting *) except -1, void *owner
    ) noexcept
    cdef int add(self, Waiting *one, double started) except -1
    cdef void remove(self, Waiting *one) noexcept
    cdef int retime(self, tuple ends) except -1
    cdef Waiting *first(self) noexcept
    cdef int _take(self, tuple ends) except -1
    cdef int _arm(self, int number, double when) except -1
    cdef int _advance(self, Waiting *one) except -1
    cdef int _look(self, int number, double now) except -1
