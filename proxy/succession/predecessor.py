"""The daemon whose place this one takes, as this one sees it until its own workers poll."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Collection
from typing import Self

from proxy.control.path import peer_credentials
from proxy.control.wire import LINE_MAX
from proxy.processes.codec import MessageError
from proxy.stats.translation import ShapeError
from proxy.succession import protocol
from proxy.succession.document import DocumentError, Late, State, read
from proxy.succession.legacy import Legacy
from proxy.succession.link import Link, LinkEndedError

COMMAND = "take-over"
PATIENCE = 3.0  # s that a daemon may take to answer a `take-over`


class NoPredecessorError(Exception):
    """The daemon cannot give its place to this one; says why."""


class Predecessor(Legacy):
    """What it gives, and what is said to it."""

    def __init__(self, sock: socket.socket) -> None:
        """Own the socket to it."""
        super().__init__()
        self._sock = sock
        self._link: Link | None = None
        self.hello = protocol.Hello(0)
        self.going = False
        """Whether it has let this daemon begin."""
        self.began = time.monotonic()
        self.priority: int | None = None
        """The priority that this daemon is to have when it begins; None if it has it already."""
        self.gone = False
        """Whether it can no longer go back."""

    @classmethod
    def ask(cls, path: str) -> Self | None:
        """Ask the daemon behind a control socket for its place; None if none answers there, or if it goes on.

        Nobody but root and our own user is asked: what comes is used as if it were ours.
        """
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            try:
                connection.connect(path)
                if peer_credentials(connection)[1] not in {0, os.geteuid()}:
                    return None
                connection.sendall(json.dumps({"command": COMMAND}).encode() + b"\n")
                data, fds, _, _ = socket.recv_fds(connection, LINE_MAX, 1)
            except OSError:
                return None
        try:
            answer = json.loads(data)
        except ValueError:
            answer = {}
        if not fds or not isinstance(answer, dict) or answer.get("ok") is not True:
            for fd in fds:
                os.close(fd)
            return None
        sock = socket.socket(fileno=fds[0])
        sock.set_inheritable(False)
        return cls(sock)

    def refuse(self, why: str, code: int) -> None:
        """Say that this daemon cannot start, and why."""
        message = protocol.Refused(why, code)
        with contextlib.suppress(OSError, LinkEndedError):
            if self._link is None:
                self._sock.setblocking(True)
                self._sock.send(b"J" + protocol.encode(message))
            else:
                self._link.send(message)
        self.close()

    def close(self) -> None:
        """Close the socket, unless `polls` has given it away, and the descriptors that were not taken."""
        if self._link is not None:
            self._link.close()
        elif not self.gone:
            self._sock.close()
        self.drop()

    @property
    def ended(self) -> bool:
        """Whether it has ended, or given up."""
        return self._link is not None and self._link.ended

    # -- what it gives

    async def receive(self) -> State:
        """Return its state.  Raises NoPredecessorError if that cannot be used."""
        self._link = Link(self._sock)
        message = await self._next()
        if not isinstance(message, protocol.Hello):
            raise NoPredecessorError(f"the running daemon began with {type(message).__name__} and not Hello")
        self.hello = message
        if message.version != protocol.VERSION:
            raise NoPredecessorError(
                f"the running daemon (steelyard {message.steelyard}) hands over by version {message.version} of the "
                f"protocol, this one by version {protocol.VERSION}: restart the daemon instead"
            )
        message = await self._next()
        if not isinstance(message, protocol.State):
            raise NoPredecessorError(f"the running daemon sent {type(message).__name__} and not State")
        try:
            self._state = read(State, message.document)
            self._state.shape.shape().check()
        except (DocumentError, ShapeError) as error:
            raise NoPredecessorError(str(error)) from None
        return self._state

    async def go(self) -> Late:
        """Say that this daemon is ready, and return what has changed since when it may begin.

        Raises NoPredecessorError if it may not, because the other has ended or has changed its mind.
        """
        self._send(protocol.Ready(os.getpid()))
        message = await self._next()
        if not isinstance(message, protocol.Go):
            raise NoPredecessorError(f"the running daemon sent {type(message).__name__} and not Go")
        try:
            late = read(Late, message.document)
        except DocumentError as error:
            raise NoPredecessorError(str(error)) from None
        self.going = True
        return late

    def polls(self, listeners: Collection[int]) -> Link:
        """Say that the workers of this daemon poll.  Returns the link to the nurse that the other becomes."""
        with contextlib.suppress(NoPredecessorError):  # if it has died, this daemon goes on all the more
            self._send(protocol.Polling(sorted(listeners)))
        self.gone = True
        link, self._link = self._link, None
        self.close()
        assert link is not None  # noqa: S101 - for the type checker: `_send` had it
        return link

    def _send(self, message: protocol.Message) -> None:
        if self._link is None:
            raise NoPredecessorError("nothing has been received yet")
        try:
            self._link.send(message)
        except LinkEndedError as error:
            raise NoPredecessorError(f"the running daemon has ended or given up: {error}") from None

    async def _next(self) -> protocol.Message:
        """Return the next message that this version knows; keep descriptors that come before it."""
        if self._link is None:
            raise NoPredecessorError("the socket is closed")
        while True:
            try:
                message, fds = await self._link.receive()
            except (LinkEndedError, MessageError) as error:
                raise NoPredecessorError(f"the running daemon has ended or given up: {error}") from None
            if isinstance(message, protocol.Hold) and len(message.names) == len(fds):
                self.keep(message.names, fds)
                continue
            for fd in fds:
                os.close(fd)
            if isinstance(message, protocol.Refused):
                raise NoPredecessorError(f"the running daemon has given up: {message.why}")
            if not isinstance(message, protocol.Unknown | protocol.Hold):
                return message
