"""One relayed TCP connection."""

cimport cython
from libc.stdint cimport uint32_t

from proxy.relay.native.address cimport Address
from proxy.relay.native.tcp_half cimport Half
from proxy.relay.native.tcp_relaying cimport Relaying
from proxy.relay.native.tcp_streams cimport Streams
from proxy.relay.target cimport Target


@cython.final
cdef class Connection(Relaying):
    cdef int begin(self, Streams tcp, listener, int fd, const Address *source) except -1
    cpdef admit(self)
    cpdef connect(self)
    cpdef move(self)
    cpdef anew(self)
    cdef int _attempt(self, Target target) except -1
    cdef int _count_failed(self, Target target, int number) except -1
    cdef int _opened(self, uint32_t mask, int number) except -1
    cdef int _event(self, Half *half, uint32_t mask) except -1
    cdef void _note(self, Half *half, uint32_t mask) noexcept
    cdef int _early_event(self, Half *half, uint32_t mask) except -1
    cdef int _client_event(self, uint32_t mask) except -1
    cdef int _gone(self) except -1
    cdef int _due(self, double now) except -1
    cdef int _open_due(self, double now) except -1
    cdef double _retires(self) noexcept
    cdef int _retire(self, double now) except -1
