"""The C fields of source-hash."""

import cython
from libc.stdint cimport uint64_t

from proxy.balance.backend cimport Backend
from proxy.balance.hashing cimport rehash
from proxy.balance.trivial cimport Heedless


cdef class SourceHash(Heedless):
    cdef tuple _ends, _owners, _usable_ends
    cdef uint64_t _total

    @cython.locals(backend=Backend)
    cpdef Backend pick(self, uint64_t key=*, exclude=*)
    @cython.locals(backend=Backend, last=uint64_t)
    cdef Backend _next(self, uint64_t key, exclude)
