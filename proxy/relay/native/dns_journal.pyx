r"""The memory of a journal; `proxy.relay.dns.journal` says what it is for.

    slot:  | length, 8 octets, 0 = free | listener, 8 octets | client, as C has it | message |

The length, of all that follows it, is written last and cleared first, so a slot is complete or free whenever the worker
dies.  The form is private to one daemon, whose processes run the same code.
"""

import mmap

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from proxy.relay.native.address cimport Client, read_client, write_client
from proxy.relay.native.linux cimport AF_INET, AF_INET6, in6_pktinfo, in_pktinfo, sockaddr_in, sockaddr_in6

cdef extern from *:
    """
    #define steelyard_in_order() __asm__ __volatile__("" ::: "memory")
    """
    void steelyard_in_order() noexcept nogil


cdef struct Head:
    int64_t length
    int64_t listener
    Client client


cdef Py_ssize_t LENGTH = sizeof(int64_t)
AREA = SLOTS * SLOT_SIZE
ROOM = SLOT_SIZE - sizeof(Head)  # octets of the longest message that fits
SIZE = SLOT_SIZE


cdef class Journal:
    """The writer's side.  If the journal is full or a message does not fit, that query alone is not noted."""

    def __init__(self, int fd):
        """Write to the memory of this descriptor, which the caller owns."""
        cdef int number
        self._map = mmap.mmap(fd, AREA)
        PyObject_GetBuffer(self._map, &self._buffer, PyBUF_WRITABLE)
        self._memory = <char *>self._buffer.buf
        for number in range(SLOTS):
            self._free[number] = SLOTS - 1 - number
        self._left = SLOTS

    cdef int write(self, Py_ssize_t listener, const Client *client, const char *data, Py_ssize_t size) noexcept:
        """Note a client's message; return its slot, or -1 if it cannot be noted."""
        cdef char *place
        cdef Head *head
        cdef int slot
        if not self._left or size > <Py_ssize_t>(SLOT_SIZE - sizeof(Head)) or self._memory == NULL:
            return -1
        self._left -= 1
        slot = self._free[self._left]
        place = self._memory + <Py_ssize_t>slot * SLOT_SIZE
        head = <Head *>place
        head.listener = listener
        head.client = client[0]
        memcpy(place + sizeof(Head), data, size)
        steelyard_in_order()
        head.length = sizeof(Head) - LENGTH + size
        return slot

    cdef void erase(self, int slot) noexcept:
        """Free a slot that `write` filled: the query was answered or given up."""
        if self._memory != NULL:
            (<Head *>(self._memory + <Py_ssize_t>slot * SLOT_SIZE)).length = 0
            steelyard_in_order()
            self._free[self._left] = slot
            self._left += 1

    def note(self, listener, client, bytes message):
        """Note a client's message; return its slot, or -1 if it cannot be noted."""
        cdef Client source
        write_client(&source, client)
        return self.write(listener, &source, message, len(message))

    def clear(self, int slot):
        """Free a slot that `note` filled."""
        if not 0 <= slot < SLOTS:
            raise IndexError(slot)
        self.erase(slot)

    def close(self):
        """Unmap the memory; the caller owns the descriptor."""
        if self._memory != NULL:
            self._memory = NULL
            PyBuffer_Release(&self._buffer)
            self._map.close()

    def __dealloc__(self):
        if self._memory != NULL:
            PyBuffer_Release(&self._buffer)


def read(bytes slot):
    """Return (listener, client, message) of a slot; None if it is free or cannot be read.

    A broken worker may have written anything.
    """
    cdef Head head
    cdef Py_ssize_t size
    if len(slot) < <Py_ssize_t>sizeof(Head):
        return None
    memcpy(&head, <const char *>slot, sizeof(Head))
    size = head.length - (<Py_ssize_t>sizeof(Head) - LENGTH)
    if head.length <= 0 or size < 0 or size > len(slot) - <Py_ssize_t>sizeof(Head):
        return None
    family = head.client.address.name.any.sa_family
    if (family, head.client.address.size) not in {(AF_INET, sizeof(sockaddr_in)), (AF_INET6, sizeof(sockaddr_in6))}:
        return None
    local = <int>sizeof(in_pktinfo) if family == AF_INET else <int>sizeof(in6_pktinfo)
    if head.client.local_size != 0 and head.client.local_size != local:
        return None
    return head.listener, read_client(&head.client), slot[sizeof(Head) : sizeof(Head) + size]
