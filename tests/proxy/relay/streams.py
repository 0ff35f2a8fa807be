"""Real peers for TCP through the relay: a listening backend, a client, and what happens on their sockets."""

import contextlib
import fcntl
import os
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.proxy.relay.conftest import TCP, Relay, eventually

RESET = "reset"  # how a stream ended, beside "end" for a FIN
END = "end"


def listen(host: str = "127.0.0.1", backlog: int = 4096, buffer: int = 0) -> socket.socket:
    """A backend that listens; `buffer` is the receive buffer of what it accepts, 0 for the kernel's choice."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.settimeout(10)
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.bind((host, 0))
    sock.listen(backlog)
    return sock


def where(sock: socket.socket) -> tuple[str, int]:
    """Its address in the relay's plan."""
    host, port = sock.getsockname()[:2]
    return host, port


@contextlib.contextmanager
def deaf() -> Iterator[tuple[tuple[str, int], socket.socket]]:
    """A backend whose queue of connections is full: the kernel drops every SYN to it."""
    with listen(backlog=0) as sock, contextlib.ExitStack() as stack:
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(where(sock))
        time.sleep(0.02)
        yield where(sock), sock


def connect(address: tuple[str, int], buffer: int = 0) -> socket.socket:
    """A client's connection to the relay."""
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    sock.settimeout(10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def turned_away(address: tuple[str, int]) -> bool:
    """Whether the relay resets a new client, be it before `connect` has returned."""
    try:
        with connect(address) as sock:
            return read(sock) == (b"", RESET)
    except ConnectionResetError:
        return True


def accept(listener: socket.socket) -> socket.socket:
    """The backend's end of the next connection."""
    sock, _ = listener.accept()
    sock.settimeout(10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def arm_reset(sock: socket.socket) -> None:
    """Let `close` send an RST instead of a FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def reset(sock: socket.socket) -> None:
    """Close with an RST."""
    arm_reset(sock)
    sock.close()


def read(sock: socket.socket, pause: float = 0.0, size: int = 1 << 16) -> tuple[bytes, str]:
    """Everything that comes, `pause` s between reads, and how it ended: END or RESET."""
    got = bytearray()
    while True:
        try:
            piece = sock.recv(size)
        except ConnectionResetError:
            return bytes(got), RESET
        if not piece:
            return bytes(got), END
        got += piece
        if pause:
            time.sleep(pause)


def exactly(sock: socket.socket, size: int) -> bytes:
    """The next `size` octets."""
    got = bytearray()
    while len(got) < size:
        piece = sock.recv(size - len(got))
        assert piece, f"the stream ended after {len(got)} of {size} octets"
        got += piece
    return bytes(got)


def is_reset(sock: socket.socket) -> bool:
    """Whether an RST has arrived, without reading or consuming it."""
    poll = select.poll()
    poll.register(sock, 0)
    return any(mask & select.POLLERR for _, mask in poll.poll(0))


def unacknowledged(sock: socket.socket) -> int:
    """Octets that were sent and that the peer's kernel has not taken yet."""
    return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0])


def settle(sock: socket.socket, quiet: float = 0.15) -> int:
    """Wait until the send queue has not changed for `quiet` s; return the octets left in it."""
    last, since = unacknowledged(sock), time.monotonic()
    while last and time.monotonic() - since < quiet:
        time.sleep(0.01)
        if (left := unacknowledged(sock)) != last:
            last, since = left, time.monotonic()
    return last


def flood(sock: socket.socket, octets: bytes) -> int:
    """Send until the relay takes no more; how much of `octets` (repeated as needed) went into the socket."""
    sock.setblocking(False)
    sent, quiet = 0, time.monotonic()
    while time.monotonic() - quiet < 0.15:
        try:
            sent += sock.send(octets[sent % len(octets) :])
            quiet = time.monotonic()
        except BlockingIOError:
            time.sleep(0.005)
    sock.settimeout(10)
    return sent


def cpu_of(thread: threading.Thread) -> float:
    """Processor seconds of a thread so far."""
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


def descriptors() -> set[int]:
    """The descriptors of this process."""
    found = {int(number) for number in os.listdir("/proc/self/fd")}  # noqa: PTH208 - names, not paths
    return {number for number in found if Path(f"/proc/self/fd/{number}").exists()}


@contextlib.contextmanager
def held(relay: Relay) -> Iterator[None]:
    """Keep the relay's thread busy, so that it sees all events of that time in one round."""
    entered, go = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        go.wait(20)

    relay._loop.call_soon_threadsafe(wait)
    assert entered.wait(5)
    try:
        yield
    finally:
        go.set()


def connecting_to(port: int) -> int:
    """How many sockets of this host are in SYN_SENT towards a port of an IPv4 address."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(1 for row in rows if row[3] == "02" and int(row[2].rpartition(":")[2], 16) == port)


class Wire:
    """One service with one backend, and the connections through it."""

    def __init__(self, relay: Relay, *, host: str = "127.0.0.1", buffer: int = 0, **timers: float) -> None:
        self.relay = relay
        self.listener = listen(host, buffer=buffer)
        self.backend = where(self.listener)
        self.buffer = buffer
        # No connect timer is near that could do what another one should.
        timers = {"connect_timeout": 30.0} | timers
        self.address = relay.service([self.backend], address=host, tcp=replace(TCP, **timers))
        self.opened: list[socket.socket] = [self.listener]

    def open(self, send_buffer: int = 0) -> tuple[socket.socket, socket.socket]:
        """A new connection: the client's end and the backend's; `send_buffer` bounds what our kernel takes for either."""
        known = set(self.connections)
        client = connect(self.address, self.buffer)
        backend = accept(self.listener)
        self.opened += [client, backend]
        # The backend's kernel answers before the relay has heard of it.
        eventually(lambda: all(conn.state.name != "CONNECTING" for conn in self.connections))
        if send_buffer:
            (conn,) = set(self.connections) - known
            for sock in own_sockets(conn):
                with sock:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        return client, backend

    def sides(self, first: str) -> tuple[socket.socket, socket.socket]:
        """A new connection: the end that acts, "client" or "backend", and the other one."""
        client, backend = self.open()
        return (client, backend) if first == "client" else (backend, client)

    @property
    def connections(self) -> list[Any]:
        """The relay's own connections of the service."""
        return connections(self.relay)

    def counter(self, name: str) -> int:
        """A counter of the service."""
        return self.relay.counter(name)

    def counts(self, *names: str) -> list[int]:
        """Counters of the backend."""
        return [self.relay.backend(self.backend, name) for name in names]

    def over(self, within: float = 5.0) -> None:
        """Wait until no connection is left; the gauges must agree."""
        eventually(lambda: self.counter("sessions") == 0, within)
        assert self.counts("active") == [0]
        assert self.connections == []

    def close(self) -> None:
        """Close the remaining clients and backends."""
        for sock in self.opened:
            sock.close()


def own_sockets(conn: Any) -> list[socket.socket]:
    """Copies of the relay's own sockets of a connection, the client's and the backend's, for the caller to close."""
    return [socket.socket(fileno=os.dup(fd)) for fd in conn.descriptors]


def connections(relay: Relay, service: int = 0) -> list[Any]:
    """The relay's own connections of a service."""
    found: list[Any] = relay.call(lambda: list(relay.engine._relays[service, "tcp"].connections))
    return found
