"""The PROXY protocol, on streams and before datagrams. Imports sockets."""
