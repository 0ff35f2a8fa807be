"""The C fields of persistence."""

import cython

from proxy.relay.native.poller cimport Poller
from proxy.relay.native.templates cimport Templates
from proxy.relay.native.traffic cimport Traffic
from proxy.relay.target cimport Target


cdef class Persistence:
    cdef Traffic _service
    cdef object _store, _selector, _timer
    cdef readonly Templates _templates  # tests look at it, and at what is held
    cdef Poller _poller
    cdef double _timeout
    cdef frozenset _members
    cdef readonly dict _held
    cdef readonly list _renewing
    cdef public object key, keys

    cdef _take(self, plan)
    @cython.locals(service=Traffic, kept=Target, target=Target, now=double)
    cpdef pick(self, sticky, key, tried, otherwise=*)
    cpdef hold(self, sticky)
    cpdef release(self, sticky, double when)
    @cython.locals(found=Target)
    cdef Target _kept(self, sticky, tried, double now)
    @cython.locals(target=Target)
    cdef Target _found(self, sticky, tried, double now)
    cdef _renew(self, sticky, double when)
