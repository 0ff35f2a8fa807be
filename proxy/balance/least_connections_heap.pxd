"""The C fields of the heap of loads."""

import cython
from libc.stdint cimport int64_t, uint64_t

from proxy.balance.backend cimport Backend
from proxy.balance.ranking cimport Ranking
from proxy.balance.trivial cimport Heedless


cdef class Heap(Heedless):
    cdef readonly Ranking ranking
    cdef tuple _members
    cdef list _prices
    cdef int64_t _now
    cdef Py_ssize_t _size, _picked
    cdef Py_ssize_t _waiting
    cdef bint _idle_first

    @cython.locals(place=Py_ssize_t, turn=int64_t, amount=int64_t, price=int64_t, backend=Backend)
    cpdef Backend pick(self, uint64_t key=*, exclude=*)
    @cython.locals(place=Py_ssize_t, amount=int64_t)
    cpdef changed(self, Backend backend)
    @cython.locals(backend=Backend)
    cpdef refreshed(self)
    @cython.locals(load=int64_t)
    cdef int64_t _amount(self, Backend backend) noexcept
    @cython.locals(place=Py_ssize_t, amount=int64_t, backend=Backend)
    cdef Py_ssize_t _settle(self) except -1
    @cython.locals(place=Py_ssize_t)
    cdef _place_picked(self)
    @cython.locals(place=Py_ssize_t, amount=int64_t, backend=Backend)
    cdef Backend _retry(self, exclude)
