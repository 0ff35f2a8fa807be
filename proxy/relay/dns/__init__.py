"""DNS over UDP, query by query. Imports clients, sockets and proxy_header, neither tcp nor udp."""
