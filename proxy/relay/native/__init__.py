"""The mechanism of the data path, compiled: the epoll set, datagrams, DNS queries, UDP sessions, TCP connections.

C structs inside, and a class only for what Python holds.  Policy is called in Python where it is rare.  Each `.pyi`
beside a module tells Python what is in it.
"""
