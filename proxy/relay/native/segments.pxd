"""Datagrams of one size to one place, which leave as one message to the kernel."""

from proxy.relay.native.datagrams cimport Parcel

cdef enum:
    SEGMENTS = 64  # of one message: the kernel's least limit (UDP_MAX_SEGMENTS)
    LARGEST_SEGMENT = 1200  # octets; fits the least MTU of IPv6 with its headers
    LARGEST_MESSAGE = 61440  # octets

cdef Parcel *gather(Parcel *first, bint in_order) noexcept
