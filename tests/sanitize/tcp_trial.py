"""Connections through a relay whose system calls fail."""

import contextlib
import hashlib
import random
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from proxy.relay.plan import TcpPlan
from tests.proxy.relay.streams import listen, where
from tests.sanitize.trial import Counters, Trial

SIZES = (0, 1, 700, 20_000, 300_000, 1_500_000)  # octets each way: below and above each threshold of the relay
ENOUGH = 1.5  # s after which nothing fails any more: a shortage that lasts may keep a client waiting for as long
PATIENCE = 4.0  # s for a connection to end
ENDS = (
    "refused_no_backend", "refused_limit", "refused_client", "client_gone", "client_reset", "backend_reset",
    "client_timeout", "backend_timeout", "idle_timeout", "fin_timeout", "max_lifetime", "closed", "denied", "proxy_malformed",
    "proxy_timeout", "queue_timeout", "drained_hard",
)  # fmt: skip
"""The counters of which each connection that was accepted adds to exactly one."""


def stream(seed: int, size: int) -> bytes:
    """Return octets in which each place is different."""
    return random.Random(seed).randbytes(size)


@dataclass
class Echo:
    """A backend that answers each stream, after its end, with the same stream reversed in halves."""

    listener: socket.socket = field(default_factory=listen)
    over: bool = False

    def __post_init__(self) -> None:
        self.address = where(self.listener)
        self.threads: list[threading.Thread] = []
        self.accepting = threading.Thread(target=self._accept, daemon=True)
        self.accepting.start()

    def _accept(self) -> None:
        while not self.over:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                continue
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(10)
        with sock, contextlib.suppress(OSError):
            got = bytearray()
            while piece := sock.recv(1 << 16):
                got += piece
            sock.sendall(turned(bytes(got)))

    def close(self) -> None:
        """End the threads."""
        self.over = True
        with contextlib.suppress(OSError), socket.create_connection(self.address, timeout=1):
            pass
        self.accepting.join(5)
        self.listener.close()
        for thread in self.threads:
            thread.join(5)


def turned(data: bytes) -> bytes:
    """Return the answer to a stream."""
    middle = len(data) // 2
    return data[middle:] + data[:middle]


class TcpTrial(Trial):
    """Clients that send a stream, end it, and read the answer."""

    protocol = "tcp"

    def prepare(self) -> None:
        """Add a service with two backends."""
        self.backends = [Echo() for _ in range(2)]
        self.address = self.relay.service(
            [one.address for one in self.backends],
            tcp=TcpPlan(connect_timeout=0.6, idle_timeout=1.5, fin_timeout=1.0, keepalive=120.0, user_timeout=30.0),
        )
        self.connected = 0

    def traffic(self) -> list[str]:
        """Open a connection of each size, all at once."""
        return self._exchange(SIZES)[0]

    def works(self) -> bool:
        """Return True if soon all connections get what they asked for."""
        deadline = time.monotonic() + 5.0
        while time.monotonic() < deadline:
            wrong, cut = self._exchange((1, 50_000))
            if wrong:
                return False
            if not cut:
                return True
        return False

    def balance(self, before: Counters, after: Counters) -> Iterator[str]:
        """Each connection is accepted, or counted as not, and ends for one reason."""
        accepted, failed = after.since(before, "accepted"), after.since(before, "accept_failed")
        shortages = after.since(before, "no_descriptor", "no_memory")  # one that cannot be watched is reset
        if not accepted <= self.connected <= accepted + failed + shortages:
            yield f"{self.connected} connections, {accepted} accepted, {failed} failed, {shortages} shortages"
        ended = after.since(before, *ENDS)
        if ended != accepted:
            yield f"{accepted} connections were accepted, and {ended} ended for a reason"

    def _exchange(self, sizes: tuple[int, ...]) -> tuple[list[str], int]:
        """Make these connections; return what was wrong, and how many were cut off."""
        clients = []
        for number, size in enumerate(sizes):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(self.address)
            self.connected += 1
            clients.append(_Client(sock, stream(number, size)))
        began = time.monotonic()
        failing = True
        while (left := [one for one in clients if not one.end]) and time.monotonic() < began + PATIENCE:
            if failing and time.monotonic() > began + ENOUGH:
                failing = False
                self.relay.call(self.faults.clear)
            writing = [one.sock for one in left if not one.finished]
            readable, writable, _ = select.select([one.sock for one in left], writing, [], 0.05)
            for one in left:
                one.go_on(one.sock in readable, one.sock in writable)
        wrong = [text for one in clients for text in one.mistakes()]
        for one in clients:
            one.sock.close()
        return wrong, sum(one.end != "end" for one in clients)

    def stop(self) -> None:
        """End the backends."""
        for one in self.backends:
            one.close()


class _Client:
    """One connection of a client."""

    def __init__(self, sock: socket.socket, data: bytes) -> None:
        self.sock = sock
        self.data = data
        self.sent = 0
        self.finished = False
        self.got = bytearray()
        self.end = ""

    def go_on(self, readable: bool, writable: bool) -> None:
        """Send and read what goes."""
        try:
            if writable:
                self.sent += self.sock.send(self.data[self.sent : self.sent + (1 << 16)]) if self.data else 0
                if self.sent == len(self.data):
                    self.sock.shutdown(socket.SHUT_WR)
                    self.finished = True
            if readable:
                piece = self.sock.recv(1 << 18)
                self.got += piece
                self.end = "" if piece else "end"
        except BlockingIOError:
            pass
        except OSError:
            self.end = "reset"

    def mistakes(self) -> Iterator[str]:
        """Yield what is wrong with what came back: an end too early, or other octets."""
        answer = turned(self.data)
        size = len(self.got)
        if answer[:size] != self.got:
            yield f"other octets than the backend sent: {hashlib.sha256(self.got).hexdigest()}, {size} octets"
        elif self.end == "end" and size != len(answer):
            yield f"the answer ended after {size} of {len(answer)} octets, without a reset"
        elif not self.end:
            yield f"no end after {PATIENCE:g} s: {self.sent} of {len(answer)} octets were sent, {size} came back"
