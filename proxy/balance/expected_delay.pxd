"""The C fields of shortest-expected-delay and never-queue."""

import cython
from libc.stdint cimport int64_t, uint64_t

from proxy.balance.backend cimport Backend
from proxy.balance.least_connections cimport Line
from proxy.balance.least_connections_heap cimport Heap
from proxy.balance.trivial cimport Heedless


cdef class DelayLine(Line):
    cdef bint _idle_first

    @cython.locals(
        idle_first=bint, turn=tuple, picked=tuple, backend=Backend,
        load=int64_t, work=int64_t, least=int64_t, weight=int64_t, speed=int64_t,
    )
    cpdef Backend pick(self, exclude=*)


cdef class DelayScan(Heedless):
    cdef DelayLine _line, _retries

    cpdef Backend pick(self, uint64_t key=*, exclude=*)


cdef class DelayHeap(Heap):
    cdef bint _idle_first

    @cython.locals(load=double, weight=double)
    cdef double _load(self, Backend backend) except -1
