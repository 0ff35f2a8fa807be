"""The journal of a worker's queries in flight."""

from proxy.relay.native.address cimport Client

cdef enum:
    SLOTS = 4096
    SLOT_SIZE = 1024


cdef class Journal:
    cdef object _map
    cdef Py_buffer _buffer
    cdef char *_memory
    cdef int _free[SLOTS]
    cdef int _left

    cdef int write(self, Py_ssize_t listener, const Client *client, const char *data, Py_ssize_t size) noexcept
    cdef void erase(self, int slot) noexcept
