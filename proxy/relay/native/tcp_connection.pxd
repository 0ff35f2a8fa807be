"""One relayed TCP connection."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t

from proxy.relay.native.address cimport Address
from proxy.relay.native.tcp_half cimport Half, Outcome
from proxy.relay.native.tcp_streams cimport Streams
from proxy.relay.native.timers cimport Deadline
from proxy.relay.target cimport Target


cdef enum:
    INTRODUCING = 1
    WAITING
    QUEUED
    CONNECTING
    OPEN
    RESETTING
    CLOSED


@cython.final
cdef class Connection:
    cdef Half _client, _backend
    cdef Half *_lost
    cdef Half *_last
    cdef Deadline _timer
    cdef Address _address
    cdef object _source
    cdef readonly Streams tcp
    cdef readonly object listener
    cdef readonly Target target
    cdef public tuple tried, portless
    cdef public object asked, queued
    cdef public int64_t sticky, counted
    cdef public double began, deadline, leaves
    cdef readonly double accepted, touched
    cdef double _wait, _jitter
    cdef readonly Py_ssize_t why
    cdef uint8_t _state, _retired

    cdef int begin(self, Streams tcp, listener, int fd, const Address *source) except -1
    cpdef admit(self)
    cpdef connect(self)
    cpdef move(self)
    cpdef anew(self)
    cpdef ends(self, Py_ssize_t cell)
    cpdef close(self, bint reset=*)
    cpdef expect(self, double when)
    cdef int _attempt(self, Target target) except -1
    cdef int _failed(self, int number) except -1
    cdef int _count_failed(self, Target target, int number) except -1
    cdef int _opened(self, uint32_t mask, int number) except -1
    cdef int _event(self, Half *half, uint32_t mask) except -1
    cdef void _note(self, Half *half, uint32_t mask) noexcept
    cdef int _early_event(self, Half *half, uint32_t mask) except -1
    cdef int _client_event(self, uint32_t mask) except -1
    cdef int _gone(self) except -1
    cdef int _pull(self, Half *half, bint dry) except -1
    cdef int _flush(self, Half *half) except -1
    cdef int _act(self, Half *half, Outcome outcome, int number) except -1
    cdef int _ended(self, Half *half) except -1
    cdef int _broken(self, Half *half, int number) except -1
    cdef int _await_delivery(self, double now) except -1
    cdef int _release(self, bint reset) except -1
    cdef int _close_half(self, Half *half, bint reset) except -1
    cdef int _due(self, double now) except -1
    cdef int _open_due(self, double now) except -1
    cdef double _retires(self) noexcept
    cdef int _retire(self, double now) except -1
