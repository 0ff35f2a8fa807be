"""Pipes through which TCP octets pass without being copied."""


cdef struct Pipe:
    int out  # octets leave it here
    int into
    Pipe *next  # in the list of idle ones


cdef class Pipes:
    cdef readonly Py_ssize_t made, idle
    cdef Py_ssize_t _most
    cdef Pipe *_idle
    cdef double _refused

    cdef Pipe *take(self, double now) noexcept
    cdef void give_back(self, Pipe *pipe) noexcept
    cdef void destroy(self, Pipe *pipe) noexcept
