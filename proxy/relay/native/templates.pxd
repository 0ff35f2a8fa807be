"""The table of templates over shared cells."""

from libc.stdint cimport int64_t


cdef class Templates:
    cdef readonly object cells
    cdef readonly int64_t buckets
    cdef int64_t *_at  # NULL once it is closed

    cdef int64_t *_place(self, int64_t key) except? NULL
    cdef int64_t *_valid(self, int64_t key, double now) except? NULL
    cpdef find(self, int64_t key, double now)
    cpdef renew(self, int64_t key, Py_ssize_t slot, double expiry)
