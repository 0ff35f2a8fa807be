"""The C fields of maglev, and the types of its layout."""

import cython
from libc.stdint cimport uint64_t

from proxy.balance.backend cimport Backend
from proxy.balance.hashing cimport rehash
from proxy.balance.trivial cimport Heedless


cdef class Layout:
    cdef readonly tuple backends, owners, weights
    cdef tuple _slots

    @cython.locals(
        owners=tuple, left=tuple, ends=tuple, table=list, slots=tuple, backend=Backend, owner=Backend,
        key=uint64_t, slot=Py_ssize_t, size=uint64_t, total=uint64_t,
    )
    cpdef tuple without(self, frozenset usable)


cdef class Maglev(Heedless):
    cdef readonly Layout _layout
    cdef tuple _table
    cdef uint64_t _size

    @cython.locals(backend=Backend)
    cpdef Backend pick(self, uint64_t key=*, exclude=*)
    @cython.locals(backend=Backend, count=uint64_t)
    cdef Backend _next(self, uint64_t key, exclude)


@cython.locals(
    table=list, taken=bytearray, at=list, steps=list, rounds=Py_ssize_t, turn=Py_ssize_t, place=Py_ssize_t,
    share=Py_ssize_t, slot=Py_ssize_t, step=Py_ssize_t,
)
cpdef list populate(names, shares, Py_ssize_t size)
