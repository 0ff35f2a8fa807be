"""The C fields of random-two."""

import cython
from libc.stdint cimport int64_t, uint64_t

from proxy.balance.backend cimport Backend
from proxy.balance.trivial cimport Heedless


cdef class RandomTwo(Heedless):
    cdef object _random
    cdef Py_ssize_t _count
    cdef tuple _weights, _bounds, _aliases
    cdef bint _even

    @cython.locals(
        backends=tuple, count=Py_ssize_t, place=Py_ssize_t, other=Py_ssize_t, drawn=double, one=Backend, two=Backend
    )
    cpdef Backend pick(self, uint64_t key=*, exclude=*)
    @cython.locals(at=double, place=Py_ssize_t, bound=double)
    cdef Py_ssize_t _draw(self) except -1
    @cython.locals(one=Backend, two=Backend, left=int64_t, right=int64_t)
    cdef Backend _lesser(self, Py_ssize_t place, Py_ssize_t other)
