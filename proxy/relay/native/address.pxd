"""Socket addresses, and the clients of datagrams: each is compared and hashed as plain memory, so unused octets are 0."""

from proxy.relay.native.linux cimport in6_pktinfo, in_pktinfo, sockaddr, sockaddr_in, sockaddr_in6, socklen_t


cdef union Name:
    sockaddr any
    sockaddr_in four
    sockaddr_in6 six


cdef struct Address:
    Name name
    socklen_t size  # of `name`; 0: no address


cdef union Info:
    in_pktinfo four
    in6_pktinfo six


cdef struct Client:
    # The source of a datagram, and at a wildcard listener the local address that it was sent to.
    Address address
    Info local  # a control message that makes the answer leave from there
    int local_size  # 0: the socket has one address


cdef int write_address(Address *address, tuple where) except -1
cdef tuple read_address(const Address *address)
cdef int write_client(Client *client, tuple source) except -1
cdef tuple read_client(const Client *client)
cdef str host_of(const Address *address)
cdef inline int port_of(const Address *address) noexcept:
    """Return an address's port."""
    from_network = address.name.four.sin_port  # at the same place in IPv6
    return (from_network & 0xFF) << 8 | from_network >> 8
