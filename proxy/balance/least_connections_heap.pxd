"""The C fields of the heap of loads."""

import cython
from libc.stdint cimport uint64_t

from proxy.balance.backend cimport Backend
from proxy.balance.trivial cimport Heedless


cdef class Heap(Heedless):
    cdef readonly list _heap
    cdef list _prices, _valid, _weights
    cdef Py_ssize_t _limit
    cdef object _now  # grows without end

    @cython.locals(load=double, index=Py_ssize_t, backend=Backend, entry=tuple)
    cpdef Backend pick(self, uint64_t key=*, exclude=*)
    @cython.locals(load=double, index=Py_ssize_t, entry=tuple, valid=tuple, was=double)
    cpdef changed(self, Backend backend)
    @cython.locals(valid=list, heap=list, old=tuple, entry=tuple, index=Py_ssize_t, backend=Backend)
    cpdef refreshed(self)
    @cython.locals(load=double, weight=double)
    cdef double _load(self, Backend backend) except -1
    @cython.locals(heap=list, valid=list, entry=tuple, load=double, now=double, index=Py_ssize_t, backend=Backend)
    cdef tuple _settle(self)
    @cython.locals(aside=list, picked=Backend, entry=tuple)
    cdef Backend _retry(self, exclude)
