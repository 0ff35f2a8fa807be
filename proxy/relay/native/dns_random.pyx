"""Random numbers for query IDs and sockets, from the kernel's CSPRNG: one system call for a thousand queries."""

import os

from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset


cdef class Random:
    """32-bit numbers, read 4 KiB at a time."""

    def __init__(self):
        self._source = os.urandom

    @property
    def source(self):
        """The function that returns so many random octets; another one replaces also the numbers that were read."""
        return self._source

    @source.setter
    def source(self, source):
        self._source = source
        self._left = 0
        memset(self._numbers, 0, sizeof(self._numbers))

    cdef uint32_t number(self) except? 0:
        """Return the next number."""
        cdef bytes octets
        cdef uint32_t number
        if not self._left:
            octets = self._source(sizeof(self._numbers))
            if len(octets) < <Py_ssize_t>sizeof(self._numbers):
                raise ValueError("too few random octets")
            memcpy(self._numbers, <const char *>octets, sizeof(self._numbers))
            self._left = NUMBERS
        number = self._numbers[NUMBERS - self._left]
        self._numbers[NUMBERS - self._left] = 0  # what was used may not be read from memory later
        self._left -= 1
        return number
