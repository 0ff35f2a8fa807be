"""The hash of keys, for C."""

from libc.stdint cimport uint8_t, uint64_t

cdef uint64_t key_of(const uint8_t *data, size_t size) noexcept nogil
