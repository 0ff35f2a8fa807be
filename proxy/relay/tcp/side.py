"""One of the two sockets of a relayed connection, with the octets that wait to be sent over it.

Laws:
- After an edge a side is read until it is dry, until the other side takes no more (its next writable edge goes on), or
  until the budget is spent (the poller calls again).
- A side is not read while octets that it sent still wait, so none wait when its end is read.
"""

import errno
import fcntl
import socket
import struct
import termios
from enum import Enum, auto
from typing import TYPE_CHECKING

from proxy.relay.native.poller import ERR, IN, OUT, PRI, RDHUP

if TYPE_CHECKING:
    from proxy.relay.tcp.connection import Connection

BUFFER = 256 << 10
READS = 4  # buffers relayed in one direction in one turn


class State(Enum):
    """The state of a connection."""

    INTRODUCING = auto()  # waits until `deadline` for the PROXY header of a listed source
    WAITING = auto()  # no connect is pending: the host lacks something, and the connect is tried again
    QUEUED = auto()  # waits in `tcp.queue` for a free slot of a backend
    CONNECTING = auto()  # waits until `deadline` for the connect to `target`
    OPEN = auto()  # both sides are relayed; the first FIN starts the fin timer
    RESETTING = auto()  # `lost` is broken: its octets are delivered, then the other side is reset
    CLOSED = auto()  # both sockets are closed


OPEN = State.OPEN  # saves a look-up in the hot path


class Half:
    """One socket of a connection."""

    __slots__ = ("bytes_cell", "conn", "eof", "octets", "other", "pending", "readable", "recv_into", "send", "sock")

    other: "Half"

    def __init__(self, conn: "Connection", sock: socket.socket) -> None:
        self.conn = conn
        self.sock = sock
        self.send = sock.send
        self.recv_into = sock.recv_into
        self.pending: memoryview | None = None
        self.readable = False  # the kernel may have octets to read
        self.eof = False  # its end has been read, and all octets before it have been sent on
        self.bytes_cell = 0  # the backend's counter of octets from here to the other side
        self.octets = 0  # octets from here to the other side

    def on_event(self, mask: int) -> None:
        """Handle an event of this socket, or go on relaying (mask 0)."""
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
        """Relay the octets that this side has sent.

        A read that fills less than the buffer has emptied the stream's queue (epoll(7)), unless a FIN or an urgent
        octet is near, or an earlier turn may have used up their edge: `dry` reads until there is nothing.
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
        """Send the waiting octets; when all are sent, read the other side again."""
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
        """Return True if there is an octet to read, rather than nothing, a FIN or an RST."""
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def unsent(self) -> int:
        """Return the number of octets in the kernel's send queue that the peer has not acknowledged."""
        try:
            answer = fcntl.ioctl(self.sock, termios.TIOCOUTQ, b"\0\0\0\0")
        except OSError:
            return 0
        return int(struct.unpack("i", answer)[0])
