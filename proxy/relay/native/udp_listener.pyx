"""A UDP socket that clients send to, and that is read by batches.

An exception costs the datagram that raised it, not those that were read with it.
Of clients that may not use the service, datagrams are counted and dropped.
"""

cimport cython
from libc.errno cimport EAGAIN
from libc.stdint cimport uint32_t

from proxy.relay.native.address cimport port_of, write_address
from proxy.relay.native.datagrams cimport BATCH, NAMED, WILDCARD, inbox_of

from proxy.relay.native.poller import DATAGRAM
from proxy.relay.sockets.datagram import WILDCARDS
from proxy.stats import layout

cdef uint32_t _DATAGRAM = DATAGRAM
cdef Py_ssize_t SERVICE_DATAGRAMS = layout.SERVICE_DATAGRAMS
cdef Py_ssize_t SERVICE_DENIED = layout.SERVICE_DENIED
cdef Py_ssize_t SERVICE_SOURCE_PORT_ZERO = layout.SERVICE_SOURCE_PORT_ZERO


@cython.no_gc_clear
cdef class Receiver:
    """The base of listeners: it reads, and passes each datagram to `_got`."""

    def __cinit__(self, *_, **__):
        self._watch.fd = -1

    def __init__(self, Poller poller not None, member, sock):
        """Poll a member's socket, which the caller owns; raises OSError."""
        self.member = member
        self.sock = sock
        self.route = member.text.encode()
        self.ident = member.listener
        self._poller = poller
        self._inbox = inbox_of(poller)
        self._names = WILDCARD if member.address in WILDCARDS else NAMED
        self._fd = sock.fileno()
        poller.prepare(&self._watch, _receiver_ready, <void *>self)
        poller.watch(&self._watch, self._fd, _DATAGRAM)

    def __dealloc__(self):
        if self._poller is not None:
            self._poller.drop(&self._watch)

    def stop(self):
        """Stop polling, and take what has arrived already."""
        self._poller.drop(&self._watch)
        self._poller.call_again(&self._watch)

    def leave(self):
        """Stop polling."""
        self._poller.drop(&self._watch)

    @property
    def reading(self):
        """True if there may be more to take."""
        return self._watch.again.next != NULL

    cdef int _ready(self) except -1:
        """Read the clients' datagrams."""
        cdef int left = BATCH
        cdef int count, at
        while left > 0:
            count = self._inbox.receive(self._fd, self._names)
            if count < 0:
                if count == -EAGAIN:
                    return 0
                left -= 1
                continue
            for at in range(count):
                try:
                    self._got(self._inbox.data(at), self._inbox.size(at), &self._inbox.clients[at])
                except Exception as error:
                    self._poller.fault(error)
            if count < BATCH:
                return 0
            left -= count
        self._poller.call_again(&self._watch)
        return 0

    cdef int _got(self, const char *data, Py_ssize_t size, const Client *client) except -1:
        """Take one datagram, whose memory is the inbox's."""
        raise NotImplementedError


cdef bint is_admitted(Traffic service, const Client *client, told, Address *asker) except -1:
    """Count a datagram of a client; return True if it is to be served.

    `asker` becomes the client's own address: the one in the PROXY header (`told`) if that has one.
    """
    service.at[service.cell + SERVICE_DATAGRAMS] += 1
    if port_of(&client.address) == 0:
        service.at[service.cell + SERVICE_SOURCE_PORT_ZERO] += 1
        return False
    if told is None or told.client is None:
        asker[0] = client.address
    else:
        write_address(asker, told.client)
    if service.permits(asker):
        return True
    service.at[service.cell + SERVICE_DENIED] += 1
    return False


cdef int _receiver_ready(Watch *watch, uint32_t mask) except -1:
    receiver = <Receiver>watch.again.owner
    return receiver._ready()
