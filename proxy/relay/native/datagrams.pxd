"""Datagrams in batches: what a socket has received, and what sockets will send at the end of a round."""

from libc.stdint cimport int64_t

from proxy.relay.native.address cimport Client
from proxy.relay.native.linux cimport iovec, mmsghdr
from proxy.relay.native.poller cimport Call, Poller

cdef enum:
    BATCH = 64  # datagrams that are read, or messages that are sent, in one system call
    APART = 1000  # flushes of a box
    VECTORS = 512  # datagrams that are sent in one system call


cdef enum Names:
    # What a socket says about the sources of its datagrams.
    CONNECTED  # nothing: there is one
    NAMED  # the address
    WILDCARD  # the address, and the local address that it sent to


cdef class Inbox:
    cdef char *_slots
    cdef mmsghdr _headers[BATCH]
    cdef iovec _vectors[BATCH]
    cdef char _controls[BATCH][64]
    cdef Client clients[BATCH]  # of the last batch, unless the socket was connected
    cdef int _names
    cdef int _dirty  # headers that the last batch has changed

    cdef int receive(self, int fd, Names names) noexcept
    cdef char *data(self, int number) noexcept
    cdef Py_ssize_t size(self, int number) noexcept
    cdef void _prepare(self, int number, Names names) noexcept
    cdef void _find_local(self, int number) noexcept


cdef struct Parcel:
    # A datagram that waits in a box.  `owner` and `tag` are whatever the box's `sent` needs.
    Parcel *next
    Client *to  # NULL: the socket is connected
    char *data
    Py_ssize_t size
    void *owner
    int64_t tag
    int together  # the parcels from this one on that leave as one message, if this is the first one of them
    bint apart  # it is allocated by itself


cdef struct Box:
    # What one socket will send.  Whatever owns the socket contains it.
    Box *previous
    Box *next  # NULL: it is empty
    Parcel *first
    Parcel *last
    int fd
    int ahead  # parcels that have left and are not reported yet
    bint in_order
    int apart  # how often what waits is still to be sent one by one, as the kernel has refused to take it together
    # `error` is 0 or an errno.  The parcel ends with the call.
    int (*sent)(Box *self, Parcel *parcel, int error) except -1
    void *owner  # a struct, or a borrowed reference: the owner closes the box before it ends


cdef class Post:
    cdef Poller _poller
    cdef Call _call
    cdef Box _boxes  # head of the list of boxes that are not empty
    cdef Box *_flushed  # the box that is being sent
    cdef char *_arena
    cdef Py_ssize_t _used
    cdef readonly Py_ssize_t waiting  # parcels
    cdef readonly Py_ssize_t calls  # of sendmmsg
    cdef readonly Py_ssize_t datagrams  # that have left
    cdef mmsghdr _headers[BATCH]
    cdef iovec _vectors[VECTORS]
    cdef char _controls[BATCH][64]

    cdef void open(
        self, Box *box, int fd, int (*sent)(Box *, Parcel *, int) except -1, void *owner, bint in_order
    ) noexcept
    cdef char *put(self, Box *box, Py_ssize_t size, const Client *to, void *owner, int64_t tag) noexcept
    cdef void relieve(self) noexcept
    cdef void flush(self, Box *box) noexcept
    cdef void flush_all(self) noexcept
    cdef void close(self, Box *box) noexcept
    cdef void _link(self, Box *box) noexcept
    cdef void _unlink(self, Box *box) noexcept
    cdef int _send(self, Box *box, int most) noexcept
    cdef void _write(self, int number, Parcel *parcel, iovec *vectors) noexcept
    cdef void _report(self, Box *box, int error) noexcept


cdef class Mailbox:
    cdef Post _post
    cdef Box _box
    cdef object _sent

cdef Inbox inbox_of(Poller poller)
cdef Post post_of(Poller poller)
