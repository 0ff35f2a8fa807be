"""UDP by sessions, and one way by datagrams. Imports sockets and proxy_header, neither tcp nor dns."""
