"""The C fields of destination-affinity."""

import cython
from libc.stdint cimport int64_t, uint64_t

from proxy.balance.backend cimport Backend
from proxy.balance.trivial cimport Heedless


cdef class Entry:
    cdef public list backends
    cdef public double used, changed


cdef class Memory:
    cdef readonly object table
    cdef readonly double now

    @cython.locals(entry=Entry)
    cdef Entry find(self, uint64_t key)
    cdef add(self, uint64_t key, Backend backend)


cdef class Affinity(Heedless):
    cdef Heedless _least
    cdef frozenset _members
    cdef readonly Memory _memory
    cdef readonly bint needs_changes

    @cython.locals(entry=Entry, picked=Backend)
    cpdef Backend pick(self, uint64_t key=*, exclude=*)
    cpdef changed(self, Backend backend)
    cpdef refreshed(self)
    @cython.locals(backend=Backend, picked=Backend)
    cdef Backend _again(self, Entry entry)
    @cython.locals(least=Backend, load=int64_t)
    cdef Backend _relief(self, Backend backend)
    @cython.locals(backend=Backend)
    cdef Backend _retry(self, Entry entry, exclude)


cdef class Replicated(Affinity):
    @cython.locals(backend=Backend, picked=Backend, relief=Backend, now=double, usable=list)
    cdef Backend _again(self, Entry entry)


@cython.locals(load=double, weight=double)
cpdef double _load(Backend backend) except? -1
