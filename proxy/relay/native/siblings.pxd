"""The columns of the other workers, as addresses."""

from libc.stdint cimport int64_t


cdef class Siblings:
    cdef dict _tables
    cdef tuple _watched
    cdef int64_t **_columns
    cdef readonly Py_ssize_t count

    cdef _index(self)
    cpdef int64_t sum(self, Py_ssize_t cell) except? -1


cdef bint claim_cell(int64_t *own, Py_ssize_t cell, Siblings siblings, int64_t taken, int64_t most, int64_t ahead) except -1
cpdef bint claim(cells, Py_ssize_t cell, Siblings siblings, int64_t taken, int64_t most, int64_t ahead=*) except -1
