"""A listening TCP socket."""

from proxy.relay.native.poller cimport Watch
from proxy.relay.native.tcp_streams cimport Streams


cdef class TcpListener:
    cdef Watch _watch
    cdef int _fd
    cdef readonly Streams tcp
    cdef readonly object member, sock, route

    cdef int _accept(self) except -1
    cdef int _begin(self, int fd, void *source) except -1
    cdef int _stall(self) except -1
