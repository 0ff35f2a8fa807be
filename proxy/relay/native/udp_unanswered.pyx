"""Keeps the last datagram of each UDP session while an ICMP error may still report that it was not delivered.  No I/O.

Laws:
- It keeps one datagram a session, the last one, until the backend sends something, but at most for `KEPT` seconds.
- All datagrams together have at most `MOST` octets: the oldest are dropped first.
- The datagrams to one end (a backend at a port) are found together: an ICMP error about one of them applies to all.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

KEPT = 1.5  # s: an ICMP error takes a round trip, and a host sends about one a second (icmp_ratelimit, icmp(7))
MOST = 4 << 20  # octets

cdef double _KEPT = KEPT


cdef class End:
    """Where datagrams go: a backend at an address and a port, as they were when its sessions began."""

    def __cinit__(self):
        self._head.before = self._head.behind = &self._head

    def __init__(self, Target target, str address, Py_ssize_t port):
        """Begin without datagrams."""
        self.target = target
        self.address = address
        self.port = port


cdef class Holder:
    """Has at most one datagram in a table; it forgets it there before its own end."""

    def __init__(self, End end):
        """Begin without a datagram to this end."""
        self.end = end
        self._tried = ()
        self._kept.holder = <void *>self

    def __dealloc__(self):
        if self._kept.data != NULL:  # a bug: it was not forgotten
            _unlink(&self._kept)


cdef class Unanswered:
    """The kept datagrams, the oldest first."""

    def __cinit__(self):
        self._head.older = self._head.newer = &self._head

    def __init__(self, Py_ssize_t most=MOST):
        """Keep at most so many octets."""
        self._most = most

    def __dealloc__(self):
        while self._head.newer != &self._head:
            _unlink(self._head.newer)

    def __len__(self):
        return self._count

    def keep(self, Holder holder not None, data, tuple tried, double now):
        """Keep a copy of a datagram that has just been sent to the holder's end, in place of its earlier one.

        Backends in `tried` had refused it before; `now` is in monotonic seconds.
        """
        cdef bytes copy = bytes(data)
        self.put(holder, copy, len(copy), tried, now)

    def forget(self, Holder holder not None):
        """Drop a holder's datagram, if there is one."""
        self.drop(holder)

    def take(self, Holder holder not None, double now):
        """Remove a holder's datagram; return (data, the backends that refused it before), or None if it is too old."""
        cdef Kept *kept = &holder._kept
        found = None
        if kept.data != NULL and now - kept.at <= _KEPT:
            found = kept.data[:kept.size], holder._tried
        self.drop(holder)
        return found

    def holders(self, End end not None):
        """Return the holders of unanswered datagrams to an end, the oldest first."""
        cdef Kept *kept = end._head.behind
        found = []
        while kept != &end._head:
            found.append(<Holder>kept.holder)
            kept = kept.behind
        return found

    cdef bint put(self, Holder holder, const char *data, Py_ssize_t size, tuple tried, double now) noexcept:
        """Keep a copy; return False if there is no memory for it."""
        cdef Kept *kept = &holder._kept
        cdef Kept *oldest
        self.drop(holder)
        kept.data = <char *>malloc(max(size, 1))
        if kept.data == NULL:
            return False
        memcpy(kept.data, data, size)
        kept.size = size
        kept.at = now
        holder._tried = tried
        kept.older, kept.newer = self._head.older, &self._head
        kept.older.newer = self._head.older = kept
        kept.before, kept.behind = holder.end._head.before, &holder.end._head
        kept.before.behind = holder.end._head.before = kept
        self.size += size
        self._count += 1
        oldest = self._head.newer
        while oldest != &self._head and (self.size > self._most or now - oldest.at > _KEPT):
            self.drop(<Holder>oldest.holder)
            oldest = self._head.newer
        return True

    cdef void drop(self, Holder holder) noexcept:
        """Drop a holder's datagram, if there is one."""
        cdef Kept *kept = &holder._kept
        if kept.data != NULL:
            self.size -= kept.size
            self._count -= 1
            holder._tried = ()
            _unlink(kept)


cdef void _unlink(Kept *kept) noexcept:
    kept.older.newer, kept.newer.older = kept.newer, kept.older
    kept.before.behind, kept.behind.before = kept.behind, kept.before
    free(kept.data)
    kept.data = NULL
