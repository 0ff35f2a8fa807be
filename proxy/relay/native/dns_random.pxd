"""Random numbers for query IDs and sockets."""

from libc.stdint cimport uint32_t

cdef enum:
    NUMBERS = 1024  # that are read at once


cdef class Random:
    cdef uint32_t _numbers[NUMBERS]
    cdef int _left
    cdef object _source

    cdef uint32_t number(self) except? 0
