"""The herald child: answers strangers on the network from what the master gives it, on stdlib asyncio, without privileges.

A process of its own, so that strangers cost the master nothing, and whoever breaks in holds nothing: it has its listening
sockets, snapshots and events, and can change neither the configuration nor what is served.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from typing import cast

from proxy.processes import channel
from proxy.processes.messages import common as messages
from proxy.processes.messages import herald as herald_messages
from proxy.processes.signals import OURS
from proxy.processes.startup import inherit
from proxy.records import log
from proxy.web.view import View

BEAT = 1.0  # s between signs of life
CROWDED = 64  # messages that wait for the master; while there are more, none is added
FAREWELL = 2.0  # s that answers may take to end
LARGEST = 256 << 20  # octets of a snapshot

_log = logging.getLogger("steelyard.herald")


class Herald:
    """The orders of the master, carried out."""

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self.done = asyncio.Event()
        self.failed = False
        self.view = View(self._want)
        self._channel = channel.Channel(sock, self._on_message, self.done.set)
        self._send(messages.Ready(os.getpid()))
        self._beat()

    async def close(self) -> None:
        """End what is open."""
        self._channel.close()

    def _send(self, message: messages.Message) -> None:
        try:
            self._channel.send(message)
        except channel.ChannelError:
            # The master is gone, and without it there is nothing to tell.
            self.done.set()

    def _beat(self) -> None:
        self._loop.call_later(BEAT, self._beat)
        if self._channel.waiting < CROWDED:
            self._send(messages.Beat())

    def _want(self) -> None:
        if self._channel.waiting < CROWDED:
            self._send(herald_messages.Wanted())

    def _on_message(self, message: messages.Message, fds: list[int]) -> None:
        try:
            self._obey(message, fds)
        except Exception:
            # One that does not answer as it should, and still beats, is worse than none: a successor may do better.
            _log.exception("%s could not be obeyed: giving up", type(message).__name__)
            self.failed = True
            self.done.set()
        finally:
            for fd in fds:
                with contextlib.suppress(OSError):
                    os.close(fd)

    def _obey(self, message: messages.Message, fds: list[int]) -> None:
        match message:
            case herald_messages.Snapshot(octets) if octets <= LARGEST:
                self.view.take(os.pread(fds[0], octets, 0))
            case herald_messages.Events(events, anew):
                self.view.tell(events, anew=anew)
            case herald_messages.Web():
                pass
            case herald_messages.Depart():
                self.done.set()
            case messages.Level(level, form):
                log.change(level, cast("log.Format", form))


async def _serve(sock: socket.socket) -> bool:
    herald = Herald(sock)
    await herald.done.wait()
    await herald.close()
    return not herald.failed


def main() -> None:
    """Run as `python -m proxy.heraldd FD UID GID LEVEL FORMAT`, started by the master only."""
    sock = inherit(sys.argv[1:])
    for number in OURS:
        signal.signal(number, lambda *_: None)
    if not asyncio.run(_serve(sock)):
        sys.exit(1)


if __name__ == "__main__":
    main()
