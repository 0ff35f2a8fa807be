"""The backends' side of DNS over UDP."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from proxy.relay.native.datagrams cimport Box
from proxy.relay.native.dns_tables cimport Idents
from proxy.relay.native.poller cimport Call, Watch
from proxy.relay.target cimport Target

cdef enum:
    SOCKETS = 4  # of a backend


cdef class Peer
cdef class Upstream


from proxy.relay.native.dns cimport Queries


cdef class Peer:
    cdef readonly Queries dns
    cdef readonly Target target
    cdef readonly int port
    cdef readonly list sockets
    cdef int chosen  # the socket of this round
    cdef public bint introduces  # queries go behind a PROXY header


cdef class Upstream:
    cdef Watch _watch
    cdef Box _box
    cdef Call _move
    cdef Idents _idents
    cdef int _fd
    cdef uint16_t *_moving
    cdef Py_ssize_t _unmoved  # IDs in `_moving` whose queries were not looked at yet
    cdef double _moving_since
    cdef bint _again  # queries may have been sent here since `_moving` was made
    cdef readonly Peer peer
    cdef readonly object sock
    cdef public double born
    cdef public Py_ssize_t silent

    cdef int _refused(self, int error, double now) except -1
    cdef int _answered(self, uint8_t *data, Py_ssize_t size, double now) except -1
    cdef int _move_some(self) except -1
