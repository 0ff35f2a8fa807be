"""One end of the socket between a daemon and its successor."""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence

from pydantic import BaseModel

from proxy.processes.channel import DESCRIPTORS, Channel, ChannelError
from proxy.succession import protocol

Receiver = Callable[[protocol.Message, list[int]], None]


class LinkEndedError(Exception):
    """The other end is gone."""


class Link:
    """Messages wait here until `receive` takes them, or, after `listen`, go to a receiver as they come."""

    def __init__(self, sock: socket.socket) -> None:
        """Own the socket."""
        self._channel = Channel(sock, self._take, self._end, codec=protocol.decode)
        self._waiting: asyncio.Queue[tuple[protocol.Message, list[int]] | None] = asyncio.Queue()
        self._receiver: Receiver | None = None
        self._on_end: Callable[[], None] = lambda: None
        self.ended = False
        """Whether the other end is gone, or this one is closed."""

    @property
    def fd(self) -> int:
        """The descriptor of the socket, -1 when it is closed."""
        return self._channel.fd

    def send(self, message: protocol.Message, fds: Sequence[int] = ()) -> None:
        """Send a message; the descriptors stay the caller's.  Raises LinkEndedError."""
        try:
            self._channel.send(protocol.encode(message), fds)
        except ChannelError as error:
            raise LinkEndedError(str(error)) from error

    def send_document(self, kind: str, document: BaseModel) -> None:
        """Send a `State` or a `Go`, which may be large, with its document.  Raises LinkEndedError."""
        try:
            self._channel.send(f'{{"kind": "{kind}", "document": {document.model_dump_json()}}}'.encode())
        except ChannelError as error:
            raise LinkEndedError(str(error)) from error

    def hold(self, descriptors: Mapping[str, int]) -> None:
        """Send descriptors by name, which stay the caller's.  Raises LinkEndedError."""
        names = list(descriptors)
        for first in range(0, len(names), DESCRIPTORS):
            some = names[first : first + DESCRIPTORS]
            self.send(protocol.Hold(some), [descriptors[name] for name in some])

    async def receive(self) -> tuple[protocol.Message, list[int]]:
        """Return the next message and its descriptors, which the caller owns.  Raises LinkEndedError at the end."""
        got = await self._waiting.get()
        if got is None:
            self._waiting.put_nowait(None)
            raise LinkEndedError("the other end is gone")
        return got

    def listen(self, receiver: Receiver, on_end: Callable[[], None]) -> None:
        """Hand each message to `receiver` from now on, first those that wait; `on_end()` is called once."""
        self._receiver, self._on_end = receiver, on_end
        while not self._waiting.empty():
            got = self._waiting.get_nowait()
            if got is None:
                on_end()
            else:
                receiver(*got)

    def pause(self) -> None:
        """Read nothing until `resume`: a successor reads from the same socket."""
        self._channel.pause()

    def resume(self) -> None:
        """Read again."""
        self._channel.resume()

    def close(self) -> None:
        """Close this end."""
        self.ended = True
        self._channel.close()
        while not self._waiting.empty():
            got = self._waiting.get_nowait()
            for fd in got[1] if got is not None else ():
                os.close(fd)

    def _take(self, message: protocol.Message, fds: list[int]) -> None:
        if self._receiver is None:
            self._waiting.put_nowait((message, fds))
        else:
            self._receiver(message, fds)

    def _end(self) -> None:
        self.ended = True
        if self._receiver is None:
            self._waiting.put_nowait(None)
        else:
            self._on_end()
