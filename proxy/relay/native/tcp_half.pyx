"""Moves the octets of one direction of a TCP connection: by copying, and by splice(2) while a side sends much.

Laws:
- After an edge a side is read until it is dry, until the other side takes no more (its next writable edge goes on), or
  until the budget is spent.
- A side is not read while octets that it sent still wait, in a buffer or in a pipe.  So they stay in order, and none wait
  when its end is read.
- A read that fills less than its buffer has emptied the stream's queue (epoll(7)): if the FIN has arrived, this is the end.
  It is not so if there were urgent octets, at which a read stops, or if an earlier turn may have used up an edge (`dry`).
- A read of `splice_from` octets that is full begins splicing; a turn that splices fewer ends it.  Without a pipe, and after
  an urgent octet, which splice(2) does not pass, octets are copied.
- TCP_NODELAY is set before the second write: the first one waits for nothing (RFC 9293, section 3.7.4).
- The last octets before a FIN leave in one segment with it (MSG_MORE), if the FIN has arrived already.

Nothing here calls Python.
"""

from libc.errno cimport EAGAIN, EINTR, EINVAL, errno
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from proxy.relay.native.linux cimport (
    IPPROTO_TCP, MSG_MORE, MSG_NOSIGNAL, MSG_PEEK, SIOCOUTQ, SO_ERROR, SO_LINGER, SOL_SOCKET, SPLICE_F_MOVE, SPLICE_F_NONBLOCK,
    TCP_NODELAY, getsockopt, ioctl, linger, recv, send, setsockopt, socklen_t, splice,
)

READS = 4  # buffers relayed in one direction in one turn

cdef int _READS = READS


cdef class Room:
    """What all TCP services of a worker share: the limit on connections, the buffer they read into, and the pipes.

    `crowded` is true if a listener may wait for room.
    """

    def __init__(self, Py_ssize_t most, Poller poller, Py_ssize_t size, Py_ssize_t splice_from, Py_ssize_t pipes):
        """Let in `most` connections, read up to `size` octets at a time, and have at most so many pipes."""
        self.most = most
        self.poller = poller
        self.size = size
        self.splice_from = splice_from
        self.pipes = Pipes(pipes if splice_from <= size else 0)
        self.buffer = <char *>malloc(size)
        if self.buffer == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.buffer)


cdef Outcome pull(Room room, int64_t *at, Half *half, bint dry, bint closing, bint *moved, int *number) noexcept:
    """Relay the octets that this side has sent; `moved` becomes true if there were any.

    `closing` says that the caller shuts the other side down at once when this one has ended.
    """
    cdef Half *other = half.other
    cdef Pipe *pipe
    cdef Py_ssize_t size, sent, most
    cdef Py_ssize_t spliced = 0
    cdef Outcome outcome
    cdef bint last
    if not half.readable or half.eof or waits(other):
        return QUIET
    for _ in range(_READS):
        most = room.size
        if not half.urgent and room.splice_from < most:
            pipe = room.pipes.take(room.poller.now) if half.bulk else NULL
            if pipe != NULL:
                outcome = _splice(room, at, half, pipe, &spliced, moved, number)
                if outcome == AGAIN:
                    continue
                if outcome == QUIET and not waits(other) and spliced < room.splice_from:
                    half.bulk = False
                return outcome
            if not half.bulk:
                most = room.splice_from
        size = recv(half.watch.fd, room.buffer, most, 0)
        if size <= 0:
            if size == 0:
                return END
            if errno == EINTR:
                continue
            if errno == EAGAIN:
                half.readable = False
                return QUIET
            number[0] = errno
            return LOST
        moved[0] = True
        last = closing and size < most and half.near and not half.urgent
        sent = _send(other, room.buffer, size, MSG_MORE if last else 0)
        if sent < 0:
            number[0] = errno
            return OTHER_LOST
        at[half.bytes_cell] += sent
        half.octets += sent
        if sent < size:
            other.pending = <char *>malloc(size - sent)
            if other.pending == NULL:
                return NO_MEMORY
            memcpy(other.pending, room.buffer + sent, size - sent)
            other.start, other.end = 0, size - sent
            return QUIET
        if size < most:
            half.bulk = False
            if half.near and not half.urgent:
                return END
            if not dry:
                half.readable = False
                return QUIET
        elif not half.urgent and room.splice_from < room.size:
            half.bulk = True
    return AGAIN


cdef Py_ssize_t _send(Half *half, const char *octets, Py_ssize_t size, int flags) noexcept:
    """Return how many octets the kernel took; -1 after an error other than a full queue."""
    cdef int on = 1
    cdef Py_ssize_t sent
    if half.prompt < 2:
        half.prompt += 1
        if half.prompt == 2:
            setsockopt(half.watch.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
    while True:
        sent = send(half.watch.fd, octets, size, MSG_NOSIGNAL | flags)
        if sent >= 0:
            return sent
        if errno == EAGAIN:
            return 0
        if errno != EINTR:
            return -1


cdef Outcome _splice(
    Room room, int64_t *at, Half *half, Pipe *pipe, Py_ssize_t *spliced, bint *moved, int *number,
) noexcept:
    """Relay through a pipe; return AGAIN if there may be more.  Octets that the other side does not take wait in it."""
    cdef Half *other = half.other
    cdef Py_ssize_t size = splice(
        half.watch.fd, NULL, pipe.into, NULL, room.size, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
    if size <= 0:
        number[0] = errno
        room.pipes.give_back(pipe)
        if size == 0:
            return END
        if number[0] == EAGAIN:
            half.readable = False
            return QUIET
        if number[0] == EINTR:
            return AGAIN
        if number[0] == EINVAL:  # a kernel that cannot splice this socket
            half.urgent = True
            return AGAIN
        return LOST
    moved[0] = True
    spliced[0] += size
    other.pipe, other.piped = pipe, size
    if not _empty(room, at, other, number):
        return OTHER_LOST
    return QUIET if other.pipe != NULL else AGAIN


cdef bint _empty(Room room, int64_t *at, Half *half, int *number) noexcept:
    """Send what waits in the pipe until the kernel takes no more; return False if this side is broken."""
    cdef int on = 1
    cdef Py_ssize_t sent
    if half.prompt < 2:
        half.prompt = 2
        setsockopt(half.watch.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
    while half.piped:
        sent = splice(half.pipe.out, NULL, half.watch.fd, NULL, half.piped, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
        if sent <= 0:
            number[0] = errno if sent < 0 else 0
            if number[0] == EINTR:
                continue
            return number[0] == EAGAIN
        at[half.other.bytes_cell] += sent
        half.other.octets += sent
        half.piped -= sent
    room.pipes.give_back(half.pipe)
    half.pipe = NULL
    return True


cdef Outcome flush(Room room, int64_t *at, Half *half, bint *moved, int *number) noexcept:
    """Send the waiting octets; return AGAIN if all are sent, so that the other side may be read again."""
    cdef Py_ssize_t before, sent
    if half.pipe != NULL:
        before = half.piped
        if not _empty(room, at, half, number):
            return LOST
        moved[0] = moved[0] or half.pipe == NULL or half.piped < before
    elif half.pending != NULL:
        sent = _send(half, half.pending + half.start, half.end - half.start, 0)
        if sent < 0:
            number[0] = errno
            return LOST
        if sent == 0:
            return QUIET
        at[half.other.bytes_cell] += sent
        half.other.octets += sent
        moved[0] = True
        half.start += sent
        if half.start == half.end:
            free(half.pending)
            half.pending = NULL
    else:
        return QUIET
    return QUIET if waits(half) else AGAIN


cdef void lose(Room room, Half *half) noexcept:
    """Drop the waiting octets."""
    free(half.pending)
    half.pending = NULL
    if half.pipe != NULL:
        room.pipes.destroy(half.pipe)
        half.pipe = NULL
    half.piped = half.start = half.end = 0


cdef bint has_more(const Half *half) noexcept:
    """Return True if there is an octet to read, rather than nothing, a FIN or an RST."""
    cdef char octet
    return recv(half.watch.fd, &octet, 1, MSG_PEEK) > 0


cdef int unsent(const Half *half) noexcept:
    """Return the number of octets in the kernel's send queue that the peer has not acknowledged."""
    cdef int count = 0
    return count if ioctl(half.watch.fd, SIOCOUTQ, &count) == 0 else 0


cdef int error_of(const Half *half) noexcept:
    """Return the socket's pending error, and clear it."""
    cdef int number = 0
    cdef socklen_t size = sizeof(number)
    getsockopt(half.watch.fd, SOL_SOCKET, SO_ERROR, &number, &size)
    return number


cdef void arm_reset(int fd) noexcept:
    """Make `close` send an RST instead of a FIN (tcp(7))."""
    cdef linger on
    on.l_onoff, on.l_linger = 1, 0
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &on, sizeof(on))
