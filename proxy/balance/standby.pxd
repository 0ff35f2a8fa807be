"""The C fields of the selector with standbys."""

import cython
from libc.stdint cimport uint64_t

from proxy.balance.backend cimport Backend
from proxy.balance.trivial cimport Heedless


cdef class WithStandbys(Heedless):
    cdef readonly Heedless serving
    cdef readonly tuple standbys
    cdef readonly bint needs_key, needs_changes, needs_ticks
    cdef tuple _ranks, _watching

    @cython.locals(picked=Backend, rank=Heedless)
    cpdef Backend pick(self, uint64_t key=*, exclude=*)
    @cython.locals(one=Heedless)
    cpdef changed(self, Backend backend)
    @cython.locals(one=Heedless)
    cpdef refreshed(self)
