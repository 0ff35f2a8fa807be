"""Datagrams in batches.

Laws:
- An `Inbox` holds the last batch of one socket.  All sockets of a pump share it: whoever reads handles the batch before
  another one reads.
- A batch of fewer than `BATCH` datagrams means that the socket is dry, unless an error is pending.
- A datagram for a `Box` waits until the round ends, and leaves with all others of its socket in one system call.
- Those of one size to one place leave as one message (`segments`), unless the kernel has just refused that for this box.
  The order changes only if the box's owner allows it.
- Each datagram is reported once: it has left, it failed, or its box was closed.  A failing one costs itself alone.
- `put` calls nobody.  So reports come only from `flush`, `relieve`, `close` and the end of a round.
- What waits lies in one arena.  When it is full, a datagram is allocated by itself; `relieve`, which is called between
  two datagrams that arrive, keeps that to what one of them causes.

A wildcard listener answers from the address that its client sent to; `proxy.relay.sockets.datagram` says how.

An ICMP error that arrives in the middle of a batch fails one datagram, and Linux does not say so: sendmmsg returns what
left before.  That datagram is sent again.  If the port is closed, its next ICMP error is reported.
"""

import os

from libc.errno cimport EINVAL, EINTR, EIO, EMSGSIZE, EOPNOTSUPP, errno
from libc.stdint cimport int64_t, uint16_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from proxy.relay.native.address cimport Client, read_client, write_client
from proxy.relay.native.linux cimport (
    AF_INET6, CMSG_DATA, CMSG_FIRSTHDR, CMSG_LEN, CMSG_NXTHDR, CMSG_SPACE, ECANCELED, IP_PKTINFO, IPPROTO_IP, IPPROTO_IPV6,
    IPPROTO_UDP, IPV6_PKTINFO, MSG_DONTWAIT, MSG_NOSIGNAL, UDP_SEGMENT, cmsghdr, in6_pktinfo, in_pktinfo, msghdr,
    recvmmsg, sendmmsg,
)
from proxy.relay.native.poller cimport Call, Poller, prepare_call
from proxy.relay.native.segments cimport gather

from proxy.relay.sockets import datagram

cdef Py_ssize_t LARGEST = datagram.LARGEST
# Slots that are a power of two apart would share the sets of every cache.
cdef Py_ssize_t STRIDE = 65536 + 320
cdef Py_ssize_t ARENA = 1 << 20
cdef int LINK_LOCAL = datagram.LINK_LOCAL[0]
cdef int LINK_LOCAL_BITS = datagram.LINK_LOCAL[1]


cdef class Inbox:
    """Room for a batch of the largest datagrams; pages that no datagram has used are no memory."""

    def __cinit__(self):
        self._slots = <char *>malloc(BATCH * STRIDE)
        if self._slots == NULL:
            raise MemoryError
        self._names = -1

    def __dealloc__(self):
        free(self._slots)

    cdef int receive(self, int fd, Names names) noexcept:
        """Read a batch; return how many datagrams there are, or the negative errno."""
        cdef int number, count
        if <int>names != self._names:
            self._names = names
            self._dirty = BATCH
        for number in range(self._dirty):
            self._prepare(number, names)
        self._dirty = 0
        while True:
            count = recvmmsg(fd, self._headers, BATCH, MSG_DONTWAIT, NULL)
            if count >= 0:
                break
            if errno != EINTR:
                return -errno
        self._dirty = count
        if names != CONNECTED:
            for number in range(count):
                self.clients[number].address.size = self._headers[number].msg_hdr.msg_namelen
                if names == WILDCARD:
                    self._find_local(number)
        return count

    def read(self, sock, Names names):
        """Return a batch as (datagram, client) pairs; raise OSError."""
        cdef int count = self.receive(sock.fileno(), names)
        if count < 0:
            raise OSError(-count, os.strerror(-count))
        return [
            (self.data(number)[: self.size(number)], None if names == CONNECTED else read_client(&self.clients[number]))
            for number in range(count)
        ]

    cdef char *data(self, int number) noexcept:
        """Return the first octet of a datagram."""
        return self._slots + number * STRIDE

    cdef Py_ssize_t size(self, int number) noexcept:
        """Return the length of a datagram."""
        return self._headers[number].msg_len

    cdef void _prepare(self, int number, Names names) noexcept:
        cdef msghdr *header = &self._headers[number].msg_hdr
        cdef Client *client = &self.clients[number]
        memset(header, 0, sizeof(msghdr))
        self._vectors[number].iov_base = self._slots + number * STRIDE
        self._vectors[number].iov_len = LARGEST
        header.msg_iov = &self._vectors[number]
        header.msg_iovlen = 1
        if names != CONNECTED:
            memset(client, 0, sizeof(Client))
            header.msg_name = &client.address.name
            header.msg_namelen = sizeof(client.address.name)
        if names == WILDCARD:
            header.msg_control = self._controls[number]
            header.msg_controllen = sizeof(self._controls[number])

    cdef void _find_local(self, int number) noexcept:
        """Keep the address that a datagram was sent to, as a control message that makes an answer leave from there."""
        cdef Client *client = &self.clients[number]
        cdef msghdr *header = &self._headers[number].msg_hdr
        cdef cmsghdr *part = CMSG_FIRSTHDR(header)
        cdef unsigned char *octets
        while part != NULL:
            if part.cmsg_level == IPPROTO_IP and part.cmsg_type == IP_PKTINFO:
                client.local.four.ipi_spec_dst = (<in_pktinfo *>CMSG_DATA(part)).ipi_spec_dst
                client.local_size = sizeof(in_pktinfo)
            elif part.cmsg_level == IPPROTO_IPV6 and part.cmsg_type == IPV6_PKTINFO:
                octets = CMSG_DATA(part)
                client.local.six = (<in6_pktinfo *>octets)[0]
                client.local_size = sizeof(in6_pktinfo)
                if octets[0] != LINK_LOCAL or octets[1] & 0xC0 != LINK_LOCAL_BITS:
                    client.local.six.ipi6_ifindex = 0
            part = CMSG_NXTHDR(header, part)


cdef class Post:
    """The datagrams that wait for the end of a round."""

    def __cinit__(self):
        self._boxes.previous = self._boxes.next = &self._boxes
        self._arena = <char *>malloc(ARENA)
        if self._arena == NULL:
            raise MemoryError

    def __init__(self, Poller poller):
        """Send at the end of this poller's rounds."""
        self._poller = poller
        prepare_call(&self._call, _round_ends, <void *>self)

    def __dealloc__(self):
        free(self._arena)

    cdef void open(
        self, Box *box, int fd, int (*sent)(Box *, Parcel *, int) except -1, void *owner, bint in_order
    ) noexcept:
        """Begin with an empty box of a socket; with `in_order`, datagrams leave in the order in which they were put."""
        memset(box, 0, sizeof(Box))
        box.in_order = in_order
        box.fd = fd
        box.sent = sent
        box.owner = owner

    cdef char *put(self, Box *box, Py_ssize_t size, const Client *to, void *owner, int64_t tag) noexcept:
        """Return room for a datagram, to be filled at once; NULL without memory or after `close`.

        `to` is copied; NULL stands for the address that the socket is connected to.
        """
        cdef Parcel *parcel
        cdef char *place
        cdef Py_ssize_t head = sizeof(Parcel) + (sizeof(Client) if to != NULL else 0)
        cdef Py_ssize_t need = (head + size + 15) & ~15
        if box.fd < 0:
            return NULL
        if self._used + need <= ARENA:
            place = self._arena + self._used
            self._used += need
            parcel = <Parcel *>place
            parcel.apart = False
        else:
            place = <char *>malloc(need)
            if place == NULL:
                return NULL
            parcel = <Parcel *>place
            parcel.apart = True
        parcel.to = NULL
        if to != NULL:
            parcel.to = <Client *>(place + sizeof(Parcel))
            parcel.to[0] = to[0]
        parcel.data = place + head
        parcel.size = size
        parcel.owner = owner
        parcel.tag = tag
        parcel.together = 1
        parcel.next = NULL
        if box.first == NULL:
            box.first = parcel
        else:
            box.last.next = parcel
        box.last = parcel
        self.waiting += 1
        if box.next == NULL:
            self._link(box)
            self._poller.call_after(&self._call)
        return parcel.data

    cdef void relieve(self) noexcept:
        """Send all if the arena is more than half full.  Reports follow at once."""
        if self._used > ARENA >> 1 and self._flushed == NULL:
            self.flush_all()

    cdef void flush_all(self) noexcept:
        """Send what waits now.  What the reports add leaves later."""
        cdef Box *last = self._boxes.previous
        cdef Box *box
        cdef bint more = self._boxes.next != &self._boxes
        while more and self._boxes.next != &self._boxes:
            box = self._boxes.next
            more = box != last
            self.flush(box)
        if self._boxes.next != &self._boxes:
            self._poller.call_after(&self._call)

    cdef void flush(self, Box *box) noexcept:
        """Send what waits in a box now."""
        cdef int left = 0, sent, error
        cdef Parcel *parcel
        if box.next == NULL or self._flushed != NULL:
            return
        self._unlink(box)
        if box.apart:
            box.apart -= 1
        elif box.first != box.last:
            box.last = gather(box.first, box.in_order)
        parcel = box.first
        while parcel != NULL:
            left += 1
            parcel = parcel.next
        self._flushed = box
        while left and self._flushed == box:
            sent = self._send(box, left)
            error = 0
            if sent < 0:
                error = -sent
                if box.first.together > 1 and _split(box, error):
                    continue
                sent = 1
            else:
                self.datagrams += sent
                box.ahead = sent
            left -= sent
            while sent and self._flushed == box:
                if not error:
                    box.ahead -= 1
                sent -= 1
                self._report(box, error)
        if self._flushed == box and box.first != NULL and box.next == NULL:
            self._link(box)
        self._flushed = NULL

    cdef void close(self, Box *box) noexcept:
        """Report what waits as ECANCELED, and take no more; the owner may end.  Harmless if the box is closed already."""
        cdef int error
        if box.next != NULL:
            self._unlink(box)
        box.fd = -1
        if self._flushed == box:
            self._flushed = NULL
        while box.first != NULL:
            error = 0 if box.ahead else ECANCELED
            if box.ahead:
                box.ahead -= 1
            self._report(box, error)

    cdef void _report(self, Box *box, int error) noexcept:
        """Take the first parcel out of a box and report it."""
        cdef Parcel *parcel = box.first
        box.first = parcel.next
        try:
            box.sent(box, parcel, error)
        except Exception as raised:
            self._poller.fault(raised)
        if parcel.apart:
            free(parcel)
        self.waiting -= 1
        if not self.waiting:
            self._used = 0

    cdef void _link(self, Box *box) noexcept:
        box.previous = self._boxes.previous
        box.next = &self._boxes
        self._boxes.previous.next = box
        self._boxes.previous = box

    cdef void _unlink(self, Box *box) noexcept:
        box.previous.next = box.next
        box.next.previous = box.previous
        box.previous = box.next = NULL

    cdef int _send(self, Box *box, int most) noexcept:
        """Send the first datagrams of a box; return how many have left, or the negative errno of the first message."""
        cdef Parcel *parcel = box.first
        cdef int messages = 0, vectors = 0, sent, number, left
        while messages < BATCH and vectors < most and vectors + parcel.together <= VECTORS:
            self._write(messages, parcel, &self._vectors[vectors])
            for _ in range(parcel.together):
                self._vectors[vectors].iov_base = parcel.data
                self._vectors[vectors].iov_len = parcel.size
                vectors += 1
                parcel = parcel.next
            messages += 1
        while True:
            self.calls += 1
            sent = sendmmsg(box.fd, self._headers, messages, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent > 0:
                left = 0
                for number in range(sent):
                    left += <int>self._headers[number].msg_hdr.msg_iovlen
                return left
            if sent < 0 and errno != EINTR:
                return -errno

    cdef void _write(self, int number, Parcel *parcel, iovec *vectors) noexcept:
        """Write the header of a message: a parcel, or several that leave together."""
        cdef msghdr *header = &self._headers[number].msg_hdr
        cdef Client *to = parcel.to
        cdef char *control = self._controls[number]
        cdef size_t used = 0
        cdef uint16_t size = <uint16_t>parcel.size
        memset(header, 0, sizeof(msghdr))
        header.msg_iov = vectors
        header.msg_iovlen = parcel.together
        if to != NULL:
            header.msg_name = &to.address.name
            header.msg_namelen = to.address.size
            if to.local_size:
                if to.address.name.any.sa_family == AF_INET6:
                    used = _control(control, IPPROTO_IPV6, IPV6_PKTINFO, &to.local, to.local_size)
                else:
                    used = _control(control, IPPROTO_IP, IP_PKTINFO, &to.local, to.local_size)
        if parcel.together > 1:
            used += _control(control + used, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size))
        if used:
            header.msg_control = control
            header.msg_controllen = used


cdef inline size_t _control(char *place, int level, int kind, const void *data, size_t size) noexcept:
    """Write a control message; return the room that it takes."""
    cdef cmsghdr *part = <cmsghdr *>place
    part.cmsg_len = CMSG_LEN(size)
    part.cmsg_level = level
    part.cmsg_type = kind
    memcpy(CMSG_DATA(part), data, size)
    return CMSG_SPACE(size)


cdef bint _split(Box *box, int error) noexcept:
    """Take apart what could not leave together; return True if all may be sent one by one now.

    If the kernel does not do it on this socket (EIO: the device has no checksums; EINVAL, EMSGSIZE: the path's MTU is
    smaller than a segment), the box does without for a while: EINVAL also says that the address to send from has moved
    to another host, and it may come back.  Another error is the first datagram's.
    """
    cdef Parcel *parcel = box.first
    if error not in (EIO, EINVAL, EMSGSIZE, EOPNOTSUPP):
        parcel.next.together = parcel.together - 1
        return False
    box.apart = APART
    while parcel != NULL:
        parcel.together = 1
        parcel = parcel.next
    return True


cdef int _round_ends(Call *call) except -1:
    (<Post>call.owner).flush_all()
    return 0


cdef class Mailbox:
    """The box of a Python socket."""

    def __init__(self, Poller poller, sock, sent, bint in_order=True):
        """Call `sent(tag, errno)` for each datagram that has left (0) or failed."""
        self._post = post_of(poller)
        self._sent = sent
        self._post.open(&self._box, sock.fileno(), _mail_sent, <void *>self, in_order)

    def __dealloc__(self):
        if self._post is not None:
            self._post.close(&self._box)

    def put(self, data, int64_t tag, client=None):
        """Send a datagram at the end of the round; return False if there is no memory, or the box is closed."""
        cdef Client to
        cdef const unsigned char[:] octets = data
        if client is not None:
            write_client(&to, client)
        place = self._post.put(&self._box, len(data), NULL if client is None else &to, NULL, tag)
        if place != NULL and len(data):
            memcpy(place, &octets[0], len(data))
        return place != NULL

    def flush(self):
        """Send at once what waits."""
        self._post.flush(&self._box)

    def relieve(self):
        """Send all boxes if much waits."""
        self._post.relieve()

    def close(self):
        """Send nothing more."""
        self._post.close(&self._box)


cdef int _mail_sent(Box *box, Parcel *parcel, int error) except -1:
    (<Mailbox>box.owner)._sent(parcel.tag, error)
    return 0


def of(Poller poller):
    """Return the inbox and the post of a poller."""
    return inbox_of(poller), post_of(poller)


cdef Inbox inbox_of(Poller poller):
    """Return the inbox that all sockets of this poller share."""
    inbox = poller.shared.get("inbox")
    if inbox is None:
        inbox = poller.shared["inbox"] = Inbox()
    return inbox


cdef Post post_of(Poller poller):
    """Return the post that all sockets of this poller share."""
    post = poller.shared.get("post")
    if post is None:
        post = poller.shared["post"] = Post(poller)
    return post
