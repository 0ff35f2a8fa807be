"""The C form of a ranking."""

cimport cython
from libc.stdint cimport int64_t


cdef struct Entry:
    int64_t amount, weight, turn
    Py_ssize_t place


@cython.final
cdef class Ranking:
    cdef Entry *_entries
    cdef Py_ssize_t *_positions
    cdef readonly Py_ssize_t size, count, compared

    cpdef Py_ssize_t first(self) noexcept
    cpdef int64_t amount(self, Py_ssize_t place) noexcept
    cpdef int64_t turn(self, Py_ssize_t place) noexcept
    cpdef put(self, Py_ssize_t place, int64_t amount, int64_t turn)
    cpdef write(self, Py_ssize_t place, int64_t amount)
    cpdef rank(self)
    cpdef Py_ssize_t first_but(self, tuple members, exclude) except -2
    cpdef rewind(self, int64_t by)

    cdef bint _precedes(self, const Entry *one, const Entry *other) noexcept
    cdef void _rise(self, Py_ssize_t at, Entry entry) noexcept
    cdef void _sink(self, Py_ssize_t at, Entry entry) noexcept
