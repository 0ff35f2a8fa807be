"""Converts addresses between C and the tuples of Python's `socket`."""

import socket

from libc.string cimport memcpy, memset

from proxy.relay.native.linux cimport AF_INET, AF_INET6, htons


cdef int write_address(Address *address, tuple where) except -1:
    """Write (host, port) or (host, port, flow, scope), of which the host is an IP address; raise OSError otherwise."""
    cdef bytes packed
    cdef str host = where[0]
    memset(address, 0, sizeof(Address))
    if ":" in host:
        packed = socket.inet_pton(AF_INET6, host)
        address.name.six.sin6_family = AF_INET6
        address.name.six.sin6_port = htons(where[1])
        memcpy(&address.name.six.sin6_addr, <char *>packed, 16)
        if len(where) > 3:
            address.name.six.sin6_flowinfo = where[2]
            address.name.six.sin6_scope_id = where[3]
        address.size = sizeof(sockaddr_in6)
    else:
        packed = socket.inet_pton(AF_INET, host)
        address.name.four.sin_family = AF_INET
        address.name.four.sin_port = htons(where[1])
        memcpy(&address.name.four.sin_addr, <char *>packed, 4)
        address.size = sizeof(sockaddr_in)
    return 0


cdef str host_of(const Address *address):
    """Return the host, without a scope."""
    if address.name.any.sa_family == AF_INET6:
        return socket.inet_ntop(AF_INET6, (<const char *>&address.name.six.sin6_addr)[:16])
    return socket.inet_ntop(AF_INET, (<const char *>&address.name.four.sin_addr)[:4])


cdef tuple read_address(const Address *address):
    """Return (host, port), for IPv6 (host, port, flow, scope)."""
    if address.name.any.sa_family == AF_INET6:
        return host_of(address), port_of(address), address.name.six.sin6_flowinfo, address.name.six.sin6_scope_id
    return host_of(address), port_of(address)


cdef int write_client(Client *client, tuple source) except -1:
    """Write a `proxy.relay.sockets.address.Client`, whose last element may be the control message."""
    cdef bytes local = b""
    if isinstance(source[-1], bytes):
        local = source[-1]
        source = source[:-1]
    memset(client, 0, sizeof(Client))
    write_address(&client.address, source)
    client.local_size = len(local)
    memcpy(&client.local, <char *>local, min(client.local_size, <int>sizeof(Info)))
    return 0


cdef tuple read_client(const Client *client):
    """Return a `proxy.relay.sockets.address.Client`."""
    source = read_address(&client.address)
    return (*source, (<const char *>&client.local)[:client.local_size]) if client.local_size else source


def round_trip(tuple source):
    """Return a client as it comes back from C."""
    cdef Client client
    write_client(&client, source)
    return read_client(&client)
