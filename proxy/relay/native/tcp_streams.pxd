"""The connections of one TCP service, and the ways to its backends."""

from libc.stdint cimport int64_t, uint64_t

from proxy.relay.native.address cimport Address
from proxy.relay.native.poller cimport Poller
from proxy.relay.native.tcp_half cimport Room
from proxy.relay.native.traffic cimport Traffic
from proxy.relay.target cimport Target


cdef class Way:
    cdef Address where
    cdef bint special
    cdef object address, port
    cdef tuple alone


cdef class Streams:
    cdef readonly Traffic service
    cdef readonly Poller poller
    cdef readonly Room admission
    cdef int64_t *at
    cdef readonly Py_ssize_t base
    cdef readonly set connections
    cdef readonly set stalled
    cdef public object log, followed, gate, queue
    cdef public double connect_timeout, idle_timeout, fin_timeout, max_lifetime, quiet
    cdef uint64_t _dice
    cdef public bint introduced, guarded, transparent
    cdef dict _ways

    cdef Way way(self, Target target, Py_ssize_t port)
    cpdef forget_ways(self)
    cdef double jitter(self) noexcept
    cdef int count(self, Py_ssize_t cell) except -1
    cdef int began(self, conn) except -1
    cdef int over(self, conn) except -1
