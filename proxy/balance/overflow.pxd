"""The C fields of overflow."""

import cython
from libc.stdint cimport uint64_t

from proxy.balance.backend cimport Backend
from proxy.balance.trivial cimport Heedless


cdef class Overflow(Heedless):
    cdef tuple _rooms
    cdef Heedless _full

    @cython.locals(backend=Backend, room=Py_ssize_t)
    cpdef Backend pick(self, uint64_t key=*, exclude=*)


cdef class OverflowHeap(Heedless):
    cdef tuple _rooms
    cdef dict _places
    cdef Heedless _full
    cdef list _heap
    cdef bytearray _listed

    @cython.locals(heap=list, aside=list, picked=Backend, backend=Backend, place=Py_ssize_t, room=Py_ssize_t)
    cpdef Backend pick(self, uint64_t key=*, exclude=*)
    @cython.locals(place=Py_ssize_t, room=Py_ssize_t)
    cpdef changed(self, Backend backend)
    @cython.locals(backend=Backend, place=Py_ssize_t, room=Py_ssize_t)
    cpdef refreshed(self)
