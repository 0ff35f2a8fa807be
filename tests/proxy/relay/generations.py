"""Two generations of a worker in this process: the second one succeeds the first, with the same listener."""

import json
import os
import socket
from typing import Any

from proxy.relay.udp import handover
from tests.proxy.relay.conftest import Relay, eventually, free_port

Address = tuple[str, int]


class Generations:
    """Two relays with the same service, the second of which succeeds the first, and the backends."""

    def __init__(self) -> None:
        self.old, self.new = Relay(), Relay()
        self.backends: list[socket.socket] = []
        self.clients: list[socket.socket] = []
        self.sent: list[tuple[int, bool]] = []  # (rows, last) of each message

    def start(self, *, address: str = "127.0.0.1", others: dict[str, Any] | None = None, **changes: Any) -> Address:
        """Start both with the same two backends; `others` is what the successor's plan has in other ways."""
        for _ in range(2):
            sock = socket.socket(type=socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(3)
            self.backends.append(sock)
        names, port = [sock.getsockname() for sock in self.backends], free_port(host=address)
        plan = {"address": address, "port": port, "transports": ("udp",), "scheduler": "failover", **changes}
        self.old.service(names, **plan)
        (member, sock), *_ = self.old._listeners
        self.new._listeners.append((member, sock.dup()))
        self.new.service(names, **{**plan, "transports": ()}, **(others or {}))
        self.old.start()
        return "127.0.0.1", port

    def client(self, at: Address) -> socket.socket:
        """Make a client."""
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.settimeout(3)
        sock.connect(at)
        self.clients.append(sock)
        return sock

    def pass_on(self, rows: list[handover.Row], fds: list[int], last: bool) -> bool:
        """Give the successor what the old one hands over, as the two masters do."""
        self.sent.append((len(rows), last))
        copies = [os.dup(fd) for fd in fds]
        self.moved.append((json.loads(json.dumps(rows)), copies))
        return True

    def hand_over(self, *down: Address) -> int:
        """Let the successor poll, for which some backends are down, and the old one hand its sessions over.

        Return how many could not go on.
        """
        self.moved: list[tuple[list[handover.Row], list[int]]] = []
        self.new.start()
        for backend in down:
            self.new.verdict(backend, "down")
        self.old.call(lambda: self.old.engine.hand_over(self.pass_on))
        eventually(lambda: self.sent and self.sent[-1][1])
        return sum(
            self.new.call(lambda rows=rows, fds=fds: self.new.engine.adopt(rows, fds)) for rows, fds in self.moved
        )

    def close(self) -> None:
        """End all."""
        for sock in (*self.clients, *self.backends):
            sock.close()
        for relay in (self.old, self.new):
            relay.close()


def ask(client: socket.socket, backend: socket.socket, text: bytes) -> Address:
    """Send a datagram to the backend and back; return where it came from."""
    client.send(text)
    data, source = backend.recvfrom(100)
    assert data == text
    backend.sendto(b"re " + text, source)
    assert client.recv(100) == b"re " + text
    return source
