"""A TCP connection whose backend is connected."""

from proxy.relay.native.tcp_half cimport Half, Outcome
from proxy.relay.native.tcp_pair cimport OPEN, RESETTING, Pair


cdef class Relaying(Pair):
    cdef int _pull(self, Half *half, bint dry) except -1
    cdef int _flush(self, Half *half) except -1
    cdef int _act(self, Half *half, Outcome outcome, int number) except -1
    cdef int _ended(self, Half *half) except -1
    cdef int _broken(self, Half *half, int number) except -1
    cdef int _await_delivery(self, double now) except -1
    cdef int _failed(self, int number) except -1
