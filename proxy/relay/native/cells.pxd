"""Cells of memory that processes share: each is read and written at once, and no write overtakes an earlier one."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t

cdef extern from *:
    """
    #define cell_read(at) __atomic_load_n(at, __ATOMIC_ACQUIRE)
    #define cell_write(at, value) __atomic_store_n(at, value, __ATOMIC_RELEASE)
    #define cell_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    """
    int64_t cell_read(const int64_t *) noexcept nogil
    void cell_write(int64_t *, int64_t) noexcept nogil
    void cell_fence() noexcept nogil  # no later read is earlier than an earlier write


cdef inline int64_t *column(cells) except NULL:
    """Return the address of a column's cells.

    It is valid until the memory is unmapped.  An export of the buffer for as long would keep that from happening.
    """
    cdef Py_buffer buffer
    PyObject_GetBuffer(cells, &buffer, PyBUF_SIMPLE)
    cdef int64_t *at = <int64_t *>buffer.buf
    PyBuffer_Release(&buffer)
    return at
