"""The two sockets of a relayed TCP connection."""

from libc.stdint cimport int64_t, uint8_t

from proxy.relay.native.address cimport Address
from proxy.relay.native.tcp_half cimport Half
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


cdef class Pair:
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

    cpdef ends(self, Py_ssize_t cell)
    cpdef close(self, bint reset=*)
    cpdef expect(self, double when)
    cdef int _release(self, bint reset) except -1
    cdef int _close_half(self, Half *half, bint reset) except -1
