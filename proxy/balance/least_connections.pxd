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


cdef class Line:
    cdef object _now  # grows without end
    cdef list _turns

    @cython.locals(
        turns=list, among=list, picked=tuple, turn=tuple, backend=Backend,
        load=int64_t, least=int64_t, weight=int64_t, light=int64_t,
    )
    cpdef Backend pick(self, exclude=*)
    cdef took(self, tuple turn)


cdef class Scan(Heedless):
    cdef Line _line, _retries

    cpdef Backend pick(self, uint64_t key=*, exclude=*)
