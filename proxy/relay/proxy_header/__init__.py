"""The PROXY protocol, on streams and before datagrams. Imports clients and sockets."""
