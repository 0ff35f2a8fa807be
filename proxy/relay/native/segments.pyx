"""Datagrams of one size to one place, which leave as one message to the kernel (UDP_SEGMENT, Linux 4.18).

The message passes through the kernel's routing and filters once, and is cut where it is received or leaves the host:
of a datagram's cost to send, two thirds are saved.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memset

from proxy.relay.native.address cimport Client
from proxy.relay.native.datagrams cimport Parcel

cdef enum:
    GROUPS = 64


cdef struct Group:
    Parcel *head
    Parcel *tail


cdef Parcel *gather(Parcel *first, bint in_order) noexcept:
    """Put the parcels of a list that may leave together behind one another; return the last one of the list.

    The first of each group knows how many they are (`together`).  With `in_order` the list stays as it is, and only
    neighbours are a group.  Groups are found by a hash without chains: a collision splits a group, and costs no more.
    """
    cdef Group groups[GROUPS]
    cdef Group *group
    cdef Parcel *previous = NULL
    cdef Parcel *parcel = first
    cdef Parcel *following
    memset(groups, 0, sizeof(groups))
    while parcel != NULL:
        following = parcel.next
        if 0 < parcel.size <= LARGEST_SEGMENT:
            group = &groups[_hash(parcel)]
            if group.head == NULL or not _fits(group.head, parcel) or (in_order and group.tail != previous):
                group.head = parcel
            else:
                group.head.together += 1
                if group.tail != previous:
                    previous.next = following
                    parcel.next = group.tail.next
                    group.tail.next = parcel
                    group.tail = parcel
                    parcel = following
                    continue
            group.tail = parcel
        previous = parcel
        parcel = following
    return previous


cdef inline bint _fits(const Parcel *head, const Parcel *parcel) noexcept:
    if head.size != parcel.size or head.together == SEGMENTS or (head.together + 1) * head.size > LARGEST_MESSAGE:
        return False
    if head.to == NULL or parcel.to == NULL:
        return head.to == parcel.to
    return memcmp(head.to, parcel.to, sizeof(Client)) == 0


cdef inline uint32_t _hash(const Parcel *parcel) noexcept:
    cdef uint32_t found = <uint32_t>parcel.size
    if parcel.to != NULL:
        # The port, which is at the same place in IPv6, and IPv4's address; other parts are compared.
        found ^= parcel.to.address.name.four.sin_port * <uint32_t>0x9E37
        found ^= parcel.to.address.name.four.sin_addr.s_addr >> 16
    return (found * <uint32_t>0x9E3779B1) >> 26
