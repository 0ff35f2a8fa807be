"""Deadlines in a heap, for C structs that contain them and for Python callbacks."""

from libc.stdint cimport uint64_t


cdef struct Deadline:
    double when  # monotonic seconds
    uint64_t order  # of adding: equal times run in this order
    Py_ssize_t place  # in the heap; -1: not set
    int (*ring)(void *owner, double now) except -1  # `now` is the time that was given to `run`
    void *owner  # a struct, or a borrowed reference: the owner cancels the timer before it ends


cdef inline void prepare_deadline(Deadline *timer, int (*ring)(void *, double) except -1, void *owner) noexcept:
    """Begin with a timer that is not set."""
    timer.ring = ring
    timer.owner = owner
    timer.place = -1


cdef class Timers:
    cdef Deadline **_heap
    cdef Py_ssize_t _size, _room
    cdef uint64_t _sequence

    cdef int set(self, Deadline *timer, double when) except -1
    cdef void unset(self, Deadline *timer) noexcept
    cdef Py_ssize_t run(self, double now, Py_ssize_t most) except -1
    cdef double soonest(self) noexcept
    cdef void _rise(self, Py_ssize_t place) noexcept
    cdef void _sink(self, Py_ssize_t place) noexcept
    cdef void _remove(self, Py_ssize_t place) noexcept


cdef class Timer:
    cdef Deadline _timer
    cdef Timers _timers
    cdef readonly object callback
    cdef void _over(self) noexcept
