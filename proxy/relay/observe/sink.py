"""The sinks of the connection log: a file, a pipe or a collector, to which a separate thread writes.

A slow disk or a stopped reader blocks the writer; flags of a regular file do not help.  So the loop never writes: it
hands lines to a thread, which waits without the interpreter's lock.  The lines that wait are limited; further ones are
dropped and counted, and traffic goes on.

- A file gets many whole lines in one write: with O_APPEND the lines of several workers do not mix.
- A pipe, a terminal or a socket gets at most PIPE_BUF octets at a time, which are written atomically (pipe(7)).
- A collector gets one datagram per line, without a syslog header; the thread does not wait for it.
"""

import contextlib
import os
import select
import socket
import stat
import threading
import time
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Final, Protocol

from proxy.relay.sockets.address import sockaddr

CHUNK: Final = 64 << 10  # octets of one write to a file
PIPE: Final = 4096  # PIPE_BUF
FAREWELL: Final = 0.5  # s that the remaining lines may take at the end
RETRY: Final = 1.0  # s until a collector that cannot be reached is tried again


class Sink(Protocol):
    """A destination of lines; only the thread uses it."""

    def write(self, lines: Sequence[bytes]) -> int:
        """Write whole lines; return how many of them are lost."""

    def close(self) -> None:
        """Close it."""


class Descriptor:
    """A file that is open for appending, or the standard output."""

    def __init__(self, fd: int) -> None:
        """Own `fd`; standard output is not closed at the end."""
        self._fd = fd
        self._most = CHUNK if stat.S_ISREG(os.fstat(fd).st_mode) else PIPE
        self._torn = False

    def write(self, lines: Sequence[bytes]) -> int:
        """Write in portions; if the disk is full, the lines that do not fit are lost."""
        lost = 0
        portion: list[bytes] = []
        size = 0
        for line in lines:
            if size + len(line) >= self._most:  # not `>`: a torn line may need an end first
                lost += self._portion(portion)
                portion, size = [], 0
            portion.append(line)
            size += len(line)
        return lost + self._portion(portion)

    def _portion(self, lines: Sequence[bytes]) -> int:
        if not lines:
            return 0
        data = b"".join((b"\n" if self._torn else b"", *lines))
        while True:
            try:
                written = os.write(self._fd, data)
                break
            except BlockingIOError:  # the parent process made the pipe non-blocking; the thread may wait
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll(1000)
            except OSError:
                return len(lines)
        whole = written >= len(data)
        self._torn = data[written - 1 : written] != b"\n" if written else self._torn
        return 0 if whole else len(lines) - data[:written].count(b"\n") + data.startswith(b"\n")

    def close(self) -> None:
        """Close it."""
        if self._fd > 2:  # noqa: PLR2004 - the standard descriptors
            os.close(self._fd)


class Collector:
    """A host that receives datagrams."""

    def __init__(self, address: str, port: int) -> None:
        self._where = address, port
        self._sock: socket.socket | None = None
        self._tried = -RETRY

    def write(self, lines: Sequence[bytes]) -> int:
        """Send each line; a line is lost if the kernel does not take it at once or reports it as unreachable."""
        return sum(not self._send(line.rstrip(b"\n")) for line in lines)

    def _send(self, line: bytes) -> bool:
        sock = self._sock or self._open()
        if sock is None:
            return False
        try:
            sock.send(line)
        except ConnectionRefusedError:
            # The error is about an earlier datagram, which is lost.  This one was not sent: try again.
            with contextlib.suppress(OSError):
                sock.send(line)
            return False
        except BlockingIOError:
            return False
        except OSError:
            self.close()
            return False
        return True

    def _open(self) -> socket.socket | None:
        now = time.monotonic()
        if now - self._tried < RETRY:
            return None
        self._tried = now
        address, port = self._where
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.connect(sockaddr(address, port))
        except OSError:
            sock.close()
            return None
        self._sock = sock
        return sock

    def close(self) -> None:
        """Close the socket."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None


class Nowhere:
    """A file that is not open yet: all lines are lost."""

    def write(self, lines: Sequence[bytes]) -> int:
        """Lose them."""
        return len(lines)

    def close(self) -> None:
        """Nothing to do."""


class Writer:
    """The thread, started with the first lines.  The thread writes `lost` and `done` (octets), the loop reads them."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._queue: SimpleQueue[list[bytes] | Sink | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.lost = 0
        self.done = 0
        self._given = self._taken = 0  # lines; the thread counts those it has taken

    def put(self, lines: list[bytes]) -> None:
        """Pass lines to the thread without waiting."""
        self._start()
        self._given += len(lines)
        self._queue.put(lines)

    def turn_to(self, sink: Sink) -> None:
        """Write later lines to another sink; earlier ones still go to the old one."""
        if self._thread is None:
            self._sink.close()
            self._sink = sink
        else:
            self._queue.put(sink)

    def close(self) -> None:
        """Wait up to FAREWELL seconds until the remaining lines are written; the rest is lost."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(FAREWELL)
            if self._thread.is_alive():
                self.lost += self._given - self._taken
        else:
            self._sink.close()

    def _start(self) -> None:
        if self._thread is None:
            # A daemon thread: if it waits for a reader that never reads, it must not keep the process alive.
            self._thread = threading.Thread(target=self._run, name="connection log", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, list):
                try:
                    self.lost += self._sink.write(item)
                except Exception:
                    self.lost += len(item)
                self.done += sum(map(len, item))
                self._taken += len(item)
            else:
                self._sink.close()
                self._sink = item
        self._sink.close()
