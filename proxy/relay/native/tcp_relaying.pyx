"""Relays the octets of a TCP connection, and passes on how each side ends.

Laws:
- All octets that one side has sent reach the other in order, followed by its FIN (RFC 9293, section 3.6) or its RST.
  An RST is passed on when the octets before it have left the send queue, at the latest after fin-timeout.
- At most one buffer, or a pipe of the same size, waits in each direction; meanwhile the sending side is not read.
"""

from libc.errno cimport ECONNRESET, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT, errno

from proxy.relay.native.linux cimport SHUT_WR, shutdown
from proxy.relay.native.tcp_half cimport (
    AGAIN, END, LOST, NO_MEMORY, OTHER_LOST, flush, has_more, lose, pull, unsent,
)
from proxy.stats import layout

cdef Py_ssize_t BACKEND_RESET = layout.BACKEND_RESET
cdef Py_ssize_t BACKEND_TIMEOUT = layout.BACKEND_TIMEOUT
cdef Py_ssize_t SERVICE_BACKEND_RESET = layout.SERVICE_BACKEND_RESET
cdef Py_ssize_t SERVICE_BACKEND_TIMEOUT = layout.SERVICE_BACKEND_TIMEOUT
cdef Py_ssize_t SERVICE_CLIENT_RESET = layout.SERVICE_CLIENT_RESET
cdef Py_ssize_t SERVICE_CLIENT_TIMEOUT = layout.SERVICE_CLIENT_TIMEOUT
cdef Py_ssize_t SERVICE_CLOSED = layout.SERVICE_CLOSED
cdef Py_ssize_t SERVICE_MAX_LIFETIME = layout.SERVICE_MAX_LIFETIME
cdef Py_ssize_t SERVICE_NO_MEMORY = layout.SERVICE_NO_MEMORY


cdef inline bint is_giving_up(int number) noexcept:
    """Return True for the kernel's errors when it gives up retransmitting: ETIMEDOUT, or the last ICMP error."""
    return number == ETIMEDOUT or number == EHOSTUNREACH or number == ENETUNREACH


cdef class Relaying(Pair):
    """A connection whose backend is connected."""

    cdef int _pull(self, Half *half, bint dry) except -1:
        """Relay what a side has sent."""
        cdef bint moved = False
        cdef int number = 0
        outcome = pull(self.tcp.admission, self.tcp.at, half, dry, self._state == OPEN, &moved, &number)
        if moved:
            self.touched = self.tcp.poller.now
        return self._act(half, outcome, number) if outcome else 0

    cdef int _flush(self, Half *half) except -1:
        """Send the waiting octets; when all are sent, read the other side again."""
        cdef bint moved = False
        cdef int number = 0
        outcome = flush(self.tcp.admission, self.tcp.at, half, &moved, &number)
        if moved:
            self.touched = self.tcp.poller.now
        if outcome == AGAIN:
            return self._pull(half.other, True)
        return self._act(half, outcome, number) if outcome else 0

    cdef int _act(self, Half *half, Outcome outcome, int number) except -1:
        """Go on as the outcome of a turn says."""
        if outcome == AGAIN:
            self.tcp.poller.call_again(&half.watch)
        elif outcome == END:
            return self._ended(half)
        elif outcome == LOST:
            return self._broken(half, number or ECONNRESET)
        elif outcome == OTHER_LOST:
            return self._broken(half.other, number or ECONNRESET)
        elif outcome == NO_MEMORY:
            self.ends(SERVICE_NO_MEMORY)
            self.close(reset=True)
        return 0

    # -- the end

    cdef int _ended(self, Half *half) except -1:
        """Pass the end of a side on: its FIN or RST has been read, and all octets before it have been sent."""
        cdef Half *other = half.other
        cdef double now = self.tcp.poller.now
        half.eof = True
        if self._state == RESETTING:
            return self._await_delivery(now)
        self.touched = now
        if other.eof:
            self._last = half
            self.ends(SERVICE_MAX_LIFETIME if self._retired else SERVICE_CLOSED)
            self.close()  # which sends the FIN
        elif not self._retired and shutdown(other.watch.fd, SHUT_WR) < 0:
            return self._broken(other, errno or ECONNRESET)
        else:
            self.expect(now + self.tcp.fin_timeout)
        return 0

    cdef int _broken(self, Half *half, int number) except -1:
        """Begin to end the connection because `half` was reset or timed out; deliver what it sent before."""
        cdef bint timed_out = is_giving_up(number)
        if self._retired:
            self.ends(SERVICE_MAX_LIFETIME)
            self.close(reset=True)
            return 0
        if self._state == RESETTING:
            if half == self._lost:
                return self._ended(half)
            self.close(reset=True)
            return 0
        if half == &self._backend and self.touched == 0.0 and not has_more(half):
            return self._failed(number)
        if half == &self._client:
            self.ends(SERVICE_CLIENT_TIMEOUT if timed_out else SERVICE_CLIENT_RESET)
        elif self.target is not None:
            self.ends(SERVICE_BACKEND_TIMEOUT if timed_out else SERVICE_BACKEND_RESET)
            self.tcp.at[self.target.cell + (BACKEND_TIMEOUT if timed_out else BACKEND_RESET)] += 1
        self._state = RESETTING
        self._lost = half
        self.deadline = self.tcp.poller.now + self.tcp.fin_timeout
        lose(self.tcp.admission, half)
        if half.eof:
            self._ended(half)
        else:
            half.readable = True
            self._pull(half, True)
        if self._state == RESETTING:
            self.expect(self.deadline)
        return 0

    cdef int _await_delivery(self, double now) except -1:
        """Reset the other side when the send queue, which has all octets of the lost side, is empty."""
        if self._lost == NULL or now >= self.deadline or unsent(self._lost.other) == 0:
            self.close(reset=True)
            return 0
        self.expect(min(now + self._wait, self.deadline))
        self._wait = min(2 * self._wait, 1.0)
        return 0

    cdef int _failed(self, int number) except -1:
        """Try another backend: nothing has passed yet."""
        raise NotImplementedError
