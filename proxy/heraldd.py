"""The herald child: answers strangers on the network from what the master gives it, on stdlib asyncio, without privileges.

A process of its own, so that strangers cost the master nothing, and whoever breaks in holds nothing: it has its listening
sockets, snapshots and events, and can change neither the configuration nor what is served.
"""

import asyncio
import base64
import contextlib
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Coroutine, Mapping
from typing import Any, cast

from proxy.peer.tls import PairCertificateError, load_all
from proxy.peer.transport import Ends, Transport
from proxy.peer.transport import Events as LinkEvents
from proxy.processes import channel
from proxy.processes.messages import common as messages
from proxy.processes.messages import herald as herald_messages
from proxy.processes.signals import OURS
from proxy.processes.startup import inherit
from proxy.records import log
from proxy.web import page
from proxy.web.metrics import rendered
from proxy.web.server import Server
from proxy.web.view import Seen, View

BEAT = 1.0  # s between signs of life
CROWDED = 64  # messages that wait for the master; while there are more, none is added
FAREWELL = 2.0  # s that answers may take to end
LARGEST = 256 << 20  # octets of a snapshot

_log = logging.getLogger("steelyard.herald")


class Herald:
    """The orders of the master, carried out."""

    def __init__(self, sock: socket.socket, files: Mapping[str, page.Content]) -> None:
        self._loop = asyncio.get_running_loop()
        self.done = asyncio.Event()
        self.failed = False
        self.view = View(self._want)
        self._web = Server(self.view, files)
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._told: dict[str, int] = {}
        self._link: Transport | None = None
        self._doors: list[socket.socket] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._channel = channel.Channel(sock, self._on_message, self.done.set)
        self._send(messages.Ready(os.getpid()))
        self._beat()

    async def close(self) -> None:
        """Let answers end, and end what is open."""
        if self._link is not None:
            await self._link.close()
        for door in self._doors:
            door.close()
        await self._web.close(FAREWELL)
        self._channel.close()

    def _send(self, message: messages.Message) -> None:
        try:
            self._channel.send(message)
        except channel.ChannelError:
            # The master is gone, and without it there is nothing to tell.
            self.done.set()

    def _beat(self) -> None:
        self._loop.call_later(BEAT, self._beat)
        if not self._crowded:
            self._send(messages.Beat())
            refused = dict(self._web.refused)
            if refused != self._told:
                self._told = refused
                self._send(herald_messages.Refused(refused))

    def _want(self) -> None:
        if not self._crowded:
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

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, sockets: list[socket.socket], allow: list[str]) -> None:
        """Answer HTTP on these sockets; one order after the other."""
        try:
            async with self._turn:
                await self._web.serve(sockets, allow)
        except Exception:
            _log.exception("no HTTP: giving up")
            self.failed = True
            self.done.set()

    def _obey(self, message: messages.Message, fds: list[int]) -> None:
        match message:
            case herald_messages.Snapshot(status, figures) if status + figures <= LARGEST:
                self.view.take(os.pread(fds[0], status, 0), os.pread(fds[0], figures, status))
            case herald_messages.Events(events, anew):
                self.view.tell(events, anew=anew)
            case herald_messages.Web(allow=allow):
                sockets = [socket.socket(fileno=fds.pop()) for _ in range(len(fds))]
                self._run(self._serve(sockets, allow))
            case herald_messages.Link():
                self._relink(message, fds)
            case herald_messages.ToPeer(number, payload) if self._link is not None:
                self._link.send(number, base64.b64decode(payload))
            case herald_messages.Drop(number, why) if self._link is not None:
                self._link.drop(number, why)
            case herald_messages.Depart():
                self.view.settle()
                self.done.set()
            case messages.Level(level, form):
                log.change(level, cast("log.Format", form))

    # -- the link to the peer

    def _relink(self, told: herald_messages.Link, fds: list[int]) -> None:
        """Take another link in place of the one there is, or none."""
        before, self._link = self._link, None
        if before is not None:
            task = self._loop.create_task(before.close())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        for door in self._doors:
            door.close()
        self._doors = []
        if not told.node or not fds:
            return
        self._doors = [socket.socket(fileno=os.dup(fds[0]))]
        ends = Ends(
            told.node, told.peer, told.address, told.peer_address, told.port, told.certificate.encode(),
            told.peer_certificate.encode(),
        )  # fmt: skip
        try:
            self._link = Transport(
                ends,
                self._doors[0],
                LinkEvents(self._linked, self._unlinked, self._from_peer, lambda: self._crowded, self._broken),
            )
        except (PairCertificateError, ssl.SSLError) as error:
            self._unlinked(0, str(error), True)
            return
        self._link.start()

    @property
    def _crowded(self) -> bool:
        return self._channel.waiting >= CROWDED

    def _broken(self, error: BaseException) -> None:
        _log.error("the link is broken: giving up", exc_info=error)
        self.failed = True
        self.done.set()

    def _linked(self, number: int) -> None:
        self._send(herald_messages.Linked(number))

    def _unlinked(self, number: int, why: str, refused: bool) -> None:
        if number or not self._crowded:
            self._send(herald_messages.Unlinked(number, why, refused))

    def _from_peer(self, number: int, payload: bytes) -> None:
        self._send(herald_messages.FromPeer(number, base64.b64encode(payload).decode()))


async def _serve(sock: socket.socket, files: Mapping[str, page.Content]) -> bool:
    herald = Herald(sock, files)
    await herald.done.wait()
    await herald.close()
    return not herald.failed


def main() -> None:
    """Run as `python -m proxy.heraldd FD UID GID LEVEL FORMAT`, started by the master only.

    What is imported or read only when it is needed comes first: it may lie where only root can read.
    """
    files = page.files()
    rendered(Seen(b"{}", b"{}", 0.0, 0), 0.0, "application/openmetrics-text")
    load_all()
    sock = inherit(sys.argv[1:])
    for number in OURS:
        signal.signal(number, lambda *_: None)
    if not asyncio.run(_serve(sock, files)):
        sys.exit(1)


if __name__ == "__main__":
    main()
