"""The C fields of least-latency, and its arithmetic."""

import cython
from libc.stdint cimport int64_t, uint64_t

from proxy.balance.backend cimport Backend
from proxy.balance.trivial cimport Heedless


@cython.locals(estimate=double, kept=double)
cpdef observe(Backend backend, double seconds, double now)

cpdef failed(Backend backend, double now)


cdef class LeastLatency(Heedless):
    cdef object _random
    cdef Py_ssize_t _count
    cdef dict _weights
    cdef tuple _bounds, _aliases, _rounds

    @cython.locals(picked=Backend, backend=Backend, newest=double, drawn=double, place=Py_ssize_t)
    cpdef Backend pick(self, uint64_t key=*, exclude=*)
    @cython.locals(one=Py_ssize_t, two=Py_ssize_t, _=Py_ssize_t, backend=Backend, drawn=list)
    cdef _two(self, exclude)
    @cython.locals(place=Py_ssize_t, _=Py_ssize_t)
    cdef Backend _draw(self, exclude)
    @cython.locals(at=double, bound=double, place=Py_ssize_t)
    cdef Py_ssize_t _place(self) except -1
    @cython.locals(left=double, right=double, heavy=double, light=double, apart=double)
    cdef bint _is_cheaper(self, Backend one, Backend two) except -1


cdef double _standing(Backend backend) noexcept
