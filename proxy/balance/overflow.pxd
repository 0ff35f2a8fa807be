"""The C fields of overflow."""

import cython
from libc.stdint cimport uint64_t

from proxy.balance.backend cimport Backend
from proxy.balance.ranking cimport Ranking
from proxy.balance.trivial cimport Heedless


cdef class Overflow(Heedless):
    cdef tuple _rooms
    cdef Heedless _full

    @cython.locals(backend=Backend, room=Py_ssize_t)
    cpdef Backend pick(self, uint64_t key=*, exclude=*)


cdef class OverflowHeap(Heedless):
    cdef list _places, _rooms
    cdef Heedless _full
    cdef readonly Ranking ranking

    @cython.locals(backend=Backend, place=Py_ssize_t)
    cpdef Backend pick(self, uint64_t key=*, exclude=*)
    @cython.locals(place=Py_ssize_t, index=Py_ssize_t, full=bint)
    cpdef changed(self, Backend backend)
    @cython.locals(backend=Backend, place=Py_ssize_t)
    cpdef refreshed(self)
    @cython.locals(room=Py_ssize_t)
    cdef bint _is_full(self, Backend backend, Py_ssize_t place) except -1
