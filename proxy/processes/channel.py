"""The socket between the master and a child, which carries messages and descriptors.

A channel is one end of a SOCK_SEQPACKET pair: a message arrives whole or not at all, with the descriptors sent along.
The kernel takes no message above about 200 KB, so a large one travels in a sealed memfd whose descriptor goes first.

    | "J" | JSON |                    small
    | "M" |        fds: memfd, ...    large; the memfd holds the JSON

What cannot be read is told, and fatal to the channel.
"""

import array
import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.processes.codec import MessageError, decode, encode
from proxy.processes.messages.common import Message
from proxy.stats import sealed

INLINE = 60_000  # octets of JSON in one packet
PACKET = 64 << 10
DESCRIPTORS = 200  # in one message; the kernel's limit is 253
QUEUE = 4096  # messages that wait for a child; one that has so many waiting reads none
QUEUED_DESCRIPTORS = 4096
LARGEST = 64 << 20  # octets of one message, and of all that wait
TURN = 0.01  # s that one channel's messages may keep the loop before the others have their turn
RETRY = 0.01  # s until what the kernel had no memory or no room for descriptors for is tried again
_PASSING = frozenset({errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS})
_log = logging.getLogger("steelyard.channel")


class ChannelError(Exception):
    """The message cannot be sent: the other end is gone or does not read, or we are out of descriptors."""


def _unsealed(fd: int, largest: int) -> bytes:
    try:
        size = os.fstat(fd).st_size
        if size > largest:
            raise MessageError(f"a message of {size} octets, of which {largest} are allowed")
        return os.pread(fd, size, 0)
    finally:
        os.close(fd)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends; the second is for a child."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    ours.setblocking(False)
    return ours, theirs


Receiver = Callable[[Message, list[int]], None]
Decode = Callable[[bytes], Any]
"""Turns the JSON of a message into a message; MessageError if it is none."""


@dataclass(slots=True)
class _Waiting:
    """A message on its way, with the descriptors that go along; `owned` are closed when it is gone."""

    data: bytes
    fds: list[int]
    owned: list[int]
    octets: int

    def close(self) -> None:
        for fd in self.owned:
            os.close(fd)
        self.owned = []


class Channel:
    """One end, on an event loop.  `on_message(message, fds)` owns the descriptors; `on_end()` comes once.

    A message of more than `largest` octets from the other end closes the channel.  `codec` reads the messages; those of
    children by default.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[Any, list[int]], None],
        on_end: Callable[[], None],
        largest: int = LARGEST,
        codec: Decode = decode,
    ) -> None:
        self._sock = sock
        self._largest = largest
        self._decode = codec
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._on_end: Callable[[], None] | None = on_end
        self._queue: deque[_Waiting] = deque()
        self._octets = 0
        self._descriptors = 0
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._readable)

    @property
    def waiting(self) -> int:
        """Messages that the other end has not taken yet."""
        return len(self._queue)

    def send(self, message: Message | bytes, fds: Sequence[int] = ()) -> None:
        """Send, in order, a message or what `encode` made of one, with `fds` (at most DESCRIPTORS; they stay the caller's).

        Never blocks: what the kernel does not take at once waits, within bounds.  ChannelError when the other end is
        gone or has stopped reading, and when we are out of descriptors: what it then misses makes it useless.
        """
        if self._on_end is None:
            raise ChannelError("the other end is gone")
        if len(fds) > DESCRIPTORS:
            raise ValueError(f"{len(fds)} descriptors in one message")
        data = message if isinstance(message, bytes) else encode(message)
        entry = _Waiting(b"J" + data, list(fds), [], len(data))
        if len(data) > INLINE:
            _enlarge(entry, data)
        if not self._queue and self._transmit(entry):
            return
        try:
            self._keep(entry)
        except BaseException:
            entry.close()
            raise

    def _keep(self, entry: _Waiting) -> None:
        """Put a message behind those that wait already."""
        if len(self._queue) >= QUEUE or self._octets + entry.octets > LARGEST:
            raise ChannelError(f"{len(self._queue)} messages of {self._octets} octets wait for the other end")
        if self._descriptors + len(entry.fds) > QUEUED_DESCRIPTORS:
            raise ChannelError(f"{self._descriptors} descriptors wait for the other end")
        try:
            for at, fd in enumerate(entry.fds):
                if fd not in entry.owned:
                    entry.fds[at] = os.dup(fd)
                    entry.owned.append(entry.fds[at])
        except OSError as error:
            raise ChannelError(f"out of descriptors: {error}") from error
        self._octets += entry.octets
        self._descriptors += len(entry.fds)
        self._queue.append(entry)
        if len(self._queue) == 1:
            self._flush()

    def pause(self) -> None:
        """Read nothing until `resume`: another process may read from the same socket meanwhile."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())

    def resume(self) -> None:
        """Read again."""
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock.fileno(), self._readable)

    @property
    def fd(self) -> int:
        """The descriptor of the socket, -1 when it is closed."""
        return self._sock.fileno()

    def finish(self) -> None:
        """Take what the other end, which is dead, had still sent, then close."""
        for _ in range(QUEUE):
            if not self._take():
                break
        self.close()

    def close(self) -> None:
        """Close this end; `on_end` is not called."""
        self._on_end = None
        self._shut()

    def _shut(self) -> None:
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        while self._queue:
            self._queue.popleft().close()

    def _ended(self) -> None:
        self._shut()
        if self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            on_end()

    def _transmit(self, entry: _Waiting) -> bool:
        """Hand one message to the kernel; returns True if the kernel took it, or if the other end is gone."""
        if self._sock.fileno() < 0:
            entry.close()
            return True
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", entry.fds))] if entry.fds else []
        try:
            self._sock.sendmsg([entry.data], ancillary)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _PASSING:
                return False
            if error.errno == errno.EMSGSIZE and entry.data[:1] == b"J":  # a host with small socket buffers
                _enlarge(entry, entry.data[1:])
                return self._transmit(entry)
            # Whoever sent must not be called back in the middle of it.
            self._loop.call_soon(self._ended)
        entry.close()
        return True

    def _flush(self) -> None:
        if self._sock.fileno() < 0:
            return
        self._loop.remove_writer(self._sock.fileno())
        while self._queue:
            entry = self._queue[0]
            if not self._transmit(entry):
                # Not at once, even if the socket is writable: it may be memory that is short.
                self._loop.call_later(RETRY, self._wait)
                return
            self._queue.popleft()
            self._octets -= entry.octets
            self._descriptors -= len(entry.fds)

    def _wait(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_writer(self._sock.fileno(), self._flush)

    def _readable(self) -> None:
        ends = self._loop.time() + TURN
        while self._take() and self._loop.time() < ends:
            pass

    def _take(self) -> bool:
        """Read and hand on one message; whether there may be another."""
        if self._sock.fileno() < 0:
            return False
        try:
            got = receive(self._sock, self._largest, self._decode)
        except BlockingIOError:
            return False
        except ConnectionResetError:  # it ended with what we had sent unread; what it had sent itself is still there
            return True
        except OSError:
            got = None
        except MessageError as error:
            _log.error("the channel to another process is closed: %s", error)
            got = None
        if got is None:
            self._ended()
            return False
        self._on_message(*got)
        return True


def _enlarge(entry: _Waiting, data: bytes) -> None:
    """Let a message travel in a memfd."""
    try:
        fd = sealed.frozen("message", data)
    except OSError as error:
        raise ChannelError(f"no memory or descriptor for a message of {len(data)} octets: {error}") from error
    entry.data = b"M"
    entry.fds.insert(0, fd)
    entry.owned.append(fd)


def receive(sock: socket.socket, largest: int = LARGEST, codec: Decode = decode) -> tuple[Any, list[int]] | None:
    """Read one message and its descriptors; None at the end.  Blocks if `sock` does.

    OSError or MessageError for what cannot be read; its descriptors are closed then.
    """
    data, ancillary, flags, _ = sock.recvmsg(PACKET, socket.CMSG_SPACE(4 * (DESCRIPTORS + 1)), socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, raw in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(raw[: len(raw) - len(raw) % numbers.itemsize])
            fds.extend(numbers)
    try:
        if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
            raise MessageError("a message or its descriptors were cut off: out of descriptors?")  # noqa: TRY301
        if not data:
            if fds:
                raise MessageError("descriptors without a message")  # noqa: TRY301
            return None
        if data[:1] == b"M" and fds:
            return codec(_unsealed(fds.pop(0), largest)), fds
        return codec(data[1:]), fds
    except BaseException:
        for fd in fds:
            with contextlib.suppress(OSError):
                os.close(fd)
        raise
