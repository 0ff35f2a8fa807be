"""TCP: from accept to the last close of both sides. Imports clients, sockets and proxy_header, neither udp nor dns."""
