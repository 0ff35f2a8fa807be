"""The C fields of least-connections.

A product of a load and a weight fits: a weight is at most 65,535 (config.schema.json), and a load of 2**46 connections is
beyond any host.
"""

import cython
from libc.stdint cimport int64_t, uint64_t

from proxy.balance.backend cimport Backend
from proxy.balance.trivial cimport Heedless


cdef class EvenPair(Heedless):
    cdef Backend _one, _two
    cdef bint _turn

    @cython.locals(one=Backend, two=Backend, left=Py_ssize_t, right=Py_ssize_t)
    cpdef Backend pick(self, uint64_t key=*, exclude=*)


cdef class Pair(EvenPair):
    cdef int64_t _one_factor, _two_factor, _credit

    @cython.locals(one=Backend, two=Backend, left=int64_t, right=int64_t)
    cpdef Backend pick(self, uint64_t key=*, exclude=*)


cdef class EvenScan(Heedless):
    cdef tuple _rounds, _after
    cdef Py_ssize_t _from, _retry_from

    @cython.locals(ring=tuple, picked=Backend, backend=Backend, load=Py_ssize_t, least=Py_ssize_t)
    cpdef Backend pick(self, uint64_t key=*, exclude=*)
    @cython.locals(ring=tuple, picked=Backend, backend=Backend, load=Py_ssize_t, least=Py_ssize_t)
    cdef Backend _retry(self, exclude)


cdef class Turn:
    cdef Backend backend
    cdef int64_t weight, when, price
    cdef Py_ssize_t lot


cdef class Line:
    cdef int64_t _now
    cdef list _turns
    cdef Py_ssize_t _waiting
    cdef bint _idle_first

    @cython.locals(
        picked=Turn, turn=Turn, backend=Backend, load=int64_t, least=int64_t, light=int64_t, mine=int64_t, best=int64_t,
    )
    cpdef Backend pick(self, exclude=*)
    @cython.locals(turn=Turn)
    cdef _advance(self, int64_t now)


cdef class Scan(Heedless):
    cdef Line _line, _retries

    cpdef Backend pick(self, uint64_t key=*, exclude=*)
