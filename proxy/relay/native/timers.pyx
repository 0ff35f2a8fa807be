"""A heap of deadlines.  It has no clock: the caller passes `now`, in seconds of any clock.

A struct that has a deadline contains its `Timer`, so that setting one allocates nothing.  A timer knows its place in the
heap, so that moving or cancelling it is O(log n) and leaves nothing behind.
"""

from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.math cimport INFINITY


cdef inline bint _sooner(Deadline *one, Deadline *other) noexcept:
    return one.when < other.when or (one.when == other.when and one.order < other.order)


cdef class Timers:
    """Deadlines in order.  `add`, a cancellation and a run are O(log n), `next_deadline` is O(1)."""

    def __dealloc__(self):
        PyMem_Free(self._heap)

    def __len__(self):
        return self._size

    def add(self, double when, callback):
        """Have `expire` call `callback(now)` from the time `when` on; equal times run in the order of their adding."""
        cdef Timer timer = Timer.__new__(Timer)
        timer._timers = self
        timer.callback = callback
        prepare_deadline(&timer._timer, _call, <void *>timer)
        self.set(&timer._timer, when)
        Py_INCREF(timer)  # the heap's own reference, until the timer runs or is cancelled
        return timer

    def next_deadline(self):
        """Return the time of the first timer; None if there is none."""
        return self._heap[0].when if self._size else None

    def expire(self, double now, Py_ssize_t most=1000):
        """Run up to `most` due timers; return how many ran.

        A callback may add and cancel timers; an added timer that is due already runs as well.  An exception of a
        callback propagates: that timer is over, and the others are unchanged.
        """
        return self.run(now, most)

    def clear(self):
        """Cancel every timer."""
        while self._size:
            self._heap[0].place = -1
            timer = self._heap[0]
            self._remove(0)
            if timer.ring is _call:
                (<Timer>timer.owner)._over()

    cdef int set(self, Deadline *timer, double when) except -1:
        """Set a timer, or move it to another time."""
        cdef Py_ssize_t room
        cdef Deadline **heap
        if timer.place >= 0:
            timer.when = when
            self._rise(timer.place)
            self._sink(timer.place)
            return 0
        if self._size == self._room:
            room = max(64, 2 * self._room)
            heap = <Deadline **>PyMem_Realloc(self._heap, room * sizeof(Deadline *))
            if heap == NULL:
                raise MemoryError
            self._heap, self._room = heap, room
        timer.when = when
        timer.order = self._sequence
        self._sequence += 1
        timer.place = self._size
        self._heap[self._size] = timer
        self._size += 1
        self._rise(timer.place)
        return 0

    cdef void unset(self, Deadline *timer) noexcept:
        """Cancel a timer; harmless if it is not set."""
        if timer.place >= 0:
            self._remove(timer.place)

    cdef Py_ssize_t run(self, double now, Py_ssize_t most) except -1:
        """Run up to `most` due timers, each of which is unset before; return how many ran."""
        cdef Py_ssize_t ran = 0
        cdef Deadline *timer
        while self._size and ran < most and self._heap[0].when <= now:
            timer = self._heap[0]
            self._remove(0)
            ran += 1
            timer.ring(timer.owner, now)
        return ran

    cdef double soonest(self) noexcept:
        """Return the time of the first timer; infinity if there is none."""
        return self._heap[0].when if self._size else INFINITY

    cdef void _remove(self, Py_ssize_t place) noexcept:
        self._heap[place].place = -1
        self._size -= 1
        if place < self._size:
            self._heap[place] = self._heap[self._size]
            self._heap[place].place = place
            self._rise(place)
            self._sink(place)

    cdef void _rise(self, Py_ssize_t place) noexcept:
        cdef Deadline **heap = self._heap
        cdef Deadline *timer = heap[place]
        cdef Py_ssize_t above
        while place:
            above = (place - 1) >> 1
            if not _sooner(timer, heap[above]):
                break
            heap[place] = heap[above]
            heap[place].place = place
            place = above
        heap[place] = timer
        timer.place = place

    cdef void _sink(self, Py_ssize_t place) noexcept:
        cdef Deadline **heap = self._heap
        cdef Deadline *timer = heap[place]
        cdef Py_ssize_t below
        while True:
            below = 2 * place + 1
            if below >= self._size:
                break
            if below + 1 < self._size and _sooner(heap[below + 1], heap[below]):
                below += 1
            if not _sooner(heap[below], timer):
                break
            heap[place] = heap[below]
            heap[place].place = place
            place = below
        heap[place] = timer
        timer.place = place


cdef class Timer:
    """One callback at one time."""

    @property
    def when(self):
        """The time at which it runs, or ran."""
        return self._timer.when

    def cancel(self):
        """Cancel the call and drop the reference to the callback.  Harmless after it has run."""
        if self._timer.place >= 0:
            self._timers.unset(&self._timer)
            self._over()

    cdef void _over(self) noexcept:
        self.callback = None
        Py_DECREF(self)


cdef int _call(void *owner, double now) except -1:
    timer = <Timer>owner
    callback = timer.callback
    timer._over()
    callback(now)
    return 0
