"""The pipes of one worker, which all its TCP connections share.

A connection takes one for a turn of relaying, and keeps it only while octets wait in it.

Laws:
- At most `most` pipes exist at a time, of which a worker keeps `MOST * FILES` descriptors free.  At most `IDLE` of them
  are kept for later.
- A pipe that is given back is empty.  One that is not is destroyed, so that no octet of one connection can reach another.
- If the kernel refuses a pipe, or one of at least `LEAST` octets (pipe(7), pipe-user-pages-soft), none is asked for during
  `REFUSED_PAUSE`: octets are copied meanwhile.
"""

from libc.math cimport INFINITY
from libc.stdlib cimport free, malloc

from proxy.relay.native.linux cimport F_SETPIPE_SZ, O_CLOEXEC, O_NONBLOCK, close, fcntl, pipe2

MOST = 64  # of a worker
FILES = 2  # descriptors of a pipe
IDLE = 8
SIZE = 256 << 10  # octets
REFUSED_PAUSE = 1.0  # s

cdef Py_ssize_t _IDLE = IDLE
cdef int _SIZE = SIZE
cdef int LEAST = 64 << 10  # octets; a smaller pipe costs more calls than copying
cdef double _REFUSED_PAUSE = REFUSED_PAUSE


cdef class Pipes:
    """A pool of pipes; `made` counts all that exist, `idle` those that are free."""

    def __init__(self, Py_ssize_t most):
        """Have at most so many pipes; 0: octets are always copied."""
        self._most = most
        self._refused = -INFINITY

    def __dealloc__(self):
        self.close()

    def close(self):
        """Close the idle pipes."""
        cdef Pipe *pipe
        while self._idle != NULL:
            pipe = self._idle
            self._idle = pipe.next
            self.idle -= 1
            self.destroy(pipe)

    cdef Pipe *take(self, double now) noexcept:
        """Return an empty pipe; NULL if there is none."""
        cdef int ends[2]
        cdef int size
        cdef Pipe *pipe = self._idle
        if pipe != NULL:
            self._idle = pipe.next
            self.idle -= 1
            return pipe
        if self.made >= self._most or now < self._refused:
            return NULL
        self._refused = now + _REFUSED_PAUSE
        pipe = <Pipe *>malloc(sizeof(Pipe))
        if pipe == NULL:
            return NULL
        if pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0:
            free(pipe)
            return NULL
        pipe.out, pipe.into, pipe.next = ends[0], ends[1], NULL
        self.made += 1
        size = fcntl(pipe.into, F_SETPIPE_SZ, _SIZE)
        if size < 0:
            size = fcntl(pipe.into, F_SETPIPE_SZ, LEAST)
        if size < LEAST:
            self.destroy(pipe)
            return NULL
        self._refused = -INFINITY
        return pipe

    cdef void give_back(self, Pipe *pipe) noexcept:
        """Take an empty pipe back."""
        if self.idle >= _IDLE:
            self.destroy(pipe)
            return
        pipe.next = self._idle
        self._idle = pipe
        self.idle += 1

    cdef void destroy(self, Pipe *pipe) noexcept:
        """Close a pipe, and lose the octets in it."""
        close(pipe.out)
        close(pipe.into)
        free(pipe)
        self.made -= 1
