"""The C fields of round-robin."""

import cython
from libc.stdint cimport int64_t, uint64_t

from proxy.balance.backend cimport Backend
from proxy.balance.ranking cimport Ranking
from proxy.balance.trivial cimport Heedless


cdef class Turns:
    cpdef Backend take(self)


cdef class Cycle(Turns):
    cdef tuple _order
    cdef Py_ssize_t _at, _count

    cpdef Backend take(self)


cdef class Deadlines(Turns):
    cdef tuple _backends, _weights
    cdef readonly Ranking ranking

    @cython.locals(place=Py_ssize_t, amount=int64_t, weight=int64_t)
    cpdef Backend take(self)
    @cython.locals(place=Py_ssize_t, cycles=int64_t, weight=int64_t)
    cdef _rewind(self, int64_t cycles)


cdef class RoundRobin(Heedless):
    cdef Turns _turns, _retry_turns

    cpdef Backend pick(self, uint64_t key=*, exclude=*)
    @cython.locals(backend=Backend)
    cdef Backend _retry(self, exclude)
