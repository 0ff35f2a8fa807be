"""One of the two sockets of a relayed connection: what is read from it, and what waits to be sent over it.

Laws:
- Each turn of an edge is used up: a side is read until it is dry, until the other side takes no more (its writability
  is the edge that reads on), or until the budget is spent (the poller calls again).
- A side is not read while what it sent before still waits, so nothing waits any more when its end is read.
"""

import errno
import fcntl
import socket
import struct
import termios
from enum import Enum, auto
from typing import TYPE_CHECKING

from proxy.relay.loop.poller import ERR, IN, OUT, PRI, RDHUP

if TYPE_CHECKING:
    from proxy.relay.tcp.connection import Connection

BUFFER = 256 << 10
READS = 4  # buffers relayed in one direction in one turn


class State(Enum):
    """What a connection is in."""

    INTRODUCING = auto()  # a listed source is to say by a PROXY header for whom it speaks, until `deadline`
    WAITING = auto()  # no connect is under way: we are out of something, and try again
    QUEUED = auto()  # for a free slot of a backend, in `relay.queue`
    CONNECTING = auto()  # to `target`, until `deadline`
    OPEN = auto()  # both sides are relayed; one may have sent its FIN, which starts the fin timer
    RESETTING = auto()  # `lost` is broken; what it had sent is delivered, then the other side is reset
    CLOSED = auto()  # both sockets are closed


OPEN = State.OPEN  # one look-up instead of two in the hot path


class Half:
    """One socket of a connection, with what waits to be sent over it."""

    __slots__ = ("bytes_cell", "conn", "eof", "octets", "other", "pending", "readable", "recv_into", "send", "sock")

    other: "Half"

    def __init__(self, conn: "Connection", sock: socket.socket) -> None:
        self.conn = conn
        self.sock = sock
        self.send = sock.send
        self.recv_into = sock.recv_into
        self.pending: memoryview | None = None
        self.readable = False  # the kernel may have more for us
        self.eof = False  # its end has been read, and all before it has been sent on
        self.bytes_cell = 0  # counts what is read here and sent to the other side
        self.octets = 0  # the same, of this connection

    def on_event(self, mask: int) -> None:
        """Something happened on this socket, or (mask 0) there is more to relay."""
        conn = self.conn
        if conn.state is not OPEN:
            conn.on_event(self, mask)
            return
        if mask & ERR:
            conn.broken(self, self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.ECONNRESET)
            return
        if mask & OUT and self.pending is not None:
            self.flush()
            if conn.state is not OPEN:
                return
        if mask & (IN | RDHUP | PRI) or not mask:
            self.readable = True
            self.pull(dry=not mask or bool(mask & (RDHUP | PRI)))

    def pull(self, *, dry: bool) -> None:  # noqa: PLR0911 - the hot path, each end of a read in one place
        """Relay what this side has sent.

        A read that fills less than the buffer has emptied a stream's queue (epoll(7)), but not where a FIN or an
        urgent byte is about, or may have been told of in an earlier turn: `dry` reads until there is nothing.
        """
        other = self.other
        if not self.readable or self.eof or other.pending is not None:
            return
        conn = self.conn
        tcp = conn.tcp
        buffer, view = tcp.buffer, tcp.view
        cells = tcp.cells
        for _ in range(READS):
            try:
                size = self.recv_into(buffer)
            except BlockingIOError:
                self.readable = False
                return
            except OSError as error:
                conn.broken(self, error.errno or errno.ECONNRESET)
                return
            if size == 0:
                conn.ended(self)
                return
            conn.touched = tcp.poller.now
            try:
                sent = other.send(view[:size])
            except BlockingIOError:
                sent = 0
            except OSError as error:
                conn.broken(other, error.errno or errno.ECONNRESET)
                return
            cells[self.bytes_cell] += sent
            self.octets += sent
            if sent < size:
                other.pending = memoryview(bytes(view[sent:size]))
                return
            if size < BUFFER and not dry:
                self.readable = False
                return
        tcp.poller.again(self.on_event)

    def flush(self) -> None:
        """Send what waits; when all of it has left, read the other side again."""
        pending = self.pending
        if pending is None:
            return
        conn = self.conn
        other = self.other
        try:
            sent = self.send(pending)
        except BlockingIOError:
            return
        except OSError as error:
            conn.broken(self, error.errno or errno.ECONNRESET)
            return
        conn.tcp.cells[other.bytes_cell] += sent
        other.octets += sent
        conn.touched = conn.tcp.poller.now
        if sent < len(pending):
            self.pending = pending[sent:]
            return
        self.pending = None
        other.pull(dry=True)

    def has_more(self) -> bool:
        """Whether there is an octet to read, as opposed to nothing yet, a FIN or an RST."""
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def unsent(self) -> int:
        """Octets in the kernel's send queue that the peer has not acknowledged."""
        try:
            answer = fcntl.ioctl(self.sock, termios.TIOCOUTQ, b"\0\0\0\0")
        except OSError:
            return 0
        return int(struct.unpack("i", answer)[0])
