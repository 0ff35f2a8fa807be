"""What the data path does with DNS messages."""

from libc.stdint cimport uint8_t

cdef Py_ssize_t end_of_question(const uint8_t *message, Py_ssize_t size) noexcept
cdef void write_answer(uint8_t *reply, const uint8_t *query, Py_ssize_t end, int flags, int rcode) noexcept
cdef bint repeats_question(const uint8_t *reply, Py_ssize_t size, const uint8_t *query, Py_ssize_t end) noexcept
