"""Sockets of the relay: addresses, options, sources, datagrams. Imports no other room of the relay."""
