"""What of a service the data path touches with each query and connection."""

from libc.stdint cimport int64_t

from proxy.relay.target cimport Target


cdef int64_t *column(cells) except NULL


cdef class Traffic:
    cdef int64_t *at  # the worker's column: `at[cell + SERVICE_QUERIES]`
    cdef readonly object cells
    cdef readonly Py_ssize_t cell
    cdef public object capacity, persistence, keeper
    cdef public bint timed
    cdef public Py_ssize_t epoch
    cdef object _selector
    cdef readonly bint needs_key, needs_changes

    cpdef took(self, Target target)
    cpdef adopted(self, Target target)
    cpdef gave_back(self, Target target)
