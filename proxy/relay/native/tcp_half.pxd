"""One of the two sockets of a relayed connection, and what all TCP connections of a worker share."""

from libc.stdint cimport int64_t, uint8_t

from proxy.relay.native.pipes cimport Pipe, Pipes
from proxy.relay.native.poller cimport Poller, Watch


cdef enum Outcome:
    QUIET  # nothing is left to do until the next edge
    AGAIN  # the budget is spent: to be called again
    END  # the end of this side has been read, and all octets before it have been sent on
    LOST  # this side is broken
    OTHER_LOST  # the other side is broken
    NO_MEMORY


cdef struct Half:
    Watch watch  # its descriptor is the socket; -1: there is none
    Half *other
    char *pending  # octets that wait to be sent over this socket: from `start` up to `end`
    Py_ssize_t start, end
    Pipe *pipe  # or they wait in a pipe: so many of them
    Py_ssize_t piped
    Py_ssize_t bytes_cell  # the backend's counter of octets from here to the other side
    int64_t octets  # octets from here to the other side
    uint8_t readable  # the kernel may have octets to read
    uint8_t eof  # its end has been read, and all octets before it have been sent on
    uint8_t near  # its FIN has arrived: what is in the queue is all that will come
    uint8_t urgent  # there were urgent octets, at which splice(2) stops
    uint8_t bulk  # it sends much: octets pass through a pipe
    uint8_t prompt  # TCP_NODELAY is on
    uint8_t tuned  # all other options are set


cdef class Room:
    cdef public Py_ssize_t open, most
    cdef public bint paused, crowded
    cdef readonly Poller poller
    cdef readonly Pipes pipes
    cdef readonly Py_ssize_t size, splice_from
    cdef char *buffer


cdef inline bint waits(const Half *half) noexcept:
    """Return True if octets wait to be sent over this socket."""
    return half.pending != NULL or half.pipe != NULL


cdef Outcome pull(Room room, int64_t *at, Half *half, bint dry, bint closing, bint *moved, int *number) noexcept
cdef Outcome flush(Room room, int64_t *at, Half *half, bint *moved, int *number) noexcept
cdef void lose(Room room, Half *half) noexcept
cdef bint has_more(const Half *half) noexcept
cdef int unsent(const Half *half) noexcept
cdef int error_of(const Half *half) noexcept
cdef void arm_reset(int fd) noexcept
