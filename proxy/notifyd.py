"""The notify child: it runs the programs and writes the FIFOs that are told of services and backends.

A process of its own, on stdlib asyncio, as a program must not have the master's privileges: it runs as the daemon's user
without any capability, like the programs that the vrrp process tells of its routers.  The mechanism is the same, too:
`vrrp.notify`.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections import Counter
from typing import Any, cast

from health.executable import trusted
from proxy.processes import channel
from proxy.processes.messages import common as messages
from proxy.processes.messages import notify as notify_messages
from proxy.processes.signals import OURS
from proxy.processes.startup import inherit
from proxy.records import log
from vrrp.notify import Notifier
from vrrp.settings import NotifySettings

BEAT = 1.0  # s between signs of life
COUNT = 0.25  # s between two looks at the counters
ALONE = 2.0  # s that programs get when the master is gone

_log = logging.getLogger("steelyard.notify")


class Notifying:
    """Carries out the master's orders."""

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._notifiers: dict[str, Notifier] = {}
        self._retired: dict[asyncio.Task[None], tuple[str, Notifier]] = {}
        self._before: dict[str, Counter[str]] = {}  # of notifiers that are gone
        self._sent: dict[str, dict[str, int]] = {}
        self._finishing: asyncio.Task[None] | None = None
        self.done = asyncio.Event()
        self.failed = False
        self._channel = channel.Channel(sock, self._on_message, self._on_end)
        self._send(messages.Ready(os.getpid()))
        self._beat()
        self._count()

    def close(self) -> None:
        """Let go of the master."""
        self._channel.close()

    def _on_message(self, message: messages.Message, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        try:
            self._obey(message)
        except Exception:
            _log.exception("%s cannot be carried out: the notify process ends", type(message).__name__)
            self.failed = True
            self.done.set()

    def _obey(self, message: messages.Message) -> None:
        match message:
            case notify_messages.Notifies(rows):
                self._have([_settings(row) for row in rows])
            case notify_messages.Changes(moves):
                for name, found in moves.items():
                    if name in self._notifiers:
                        self._notifiers[name].put([tuple(move) for move in found])
            case notify_messages.Finish(patience):
                self._finish(patience)
            case messages.Level(level, form):
                log.change(level, cast("log.Format", form))

    def _have(self, rows: list[NotifySettings]) -> None:
        """Have these notifiers: one whose program or FIFO stays goes on, so that its changes stay in order."""
        old, self._notifiers = self._notifiers, {}
        for one in rows:
            found = old.get(one.name)
            if found is not None and found.goes_to(one):
                self._notifiers[one.name] = old.pop(one.name)
            else:
                self._notifiers[one.name] = self._made(one)
        for name, notifier in old.items():
            task = self._loop.create_task(notifier.close())
            self._retired[task] = name, notifier
            task.add_done_callback(self._gone)

    def _made(self, settings: NotifySettings) -> Notifier:
        def on_problem(text: str) -> None:
            self._send(notify_messages.Trouble(settings.name, text, time.time()))

        return Notifier(settings, on_problem, trusted)

    def _gone(self, task: asyncio.Task[None]) -> None:
        name, notifier = self._retired.pop(task)
        self._before.setdefault(name, Counter()).update(notifier.counters)

    # -- reports

    def _counters(self) -> dict[str, dict[str, int]]:
        found = {name: Counter(counts) for name, counts in self._before.items()}
        for name, notifier in [*self._notifiers.items(), *self._retired.values()]:
            found.setdefault(name, Counter()).update(notifier.counters)
            found[name]["waiting"] += notifier.waiting
        return {name: dict(counts) for name, counts in found.items()}

    def _count(self) -> None:
        self._loop.call_later(COUNT, self._count)
        found = self._counters()
        if found != self._sent:
            self._sent = found
            self._send(notify_messages.Counted(found))

    def _beat(self) -> None:
        self._loop.call_later(BEAT, self._beat)
        self._send(messages.Beat())

    def _send(self, message: messages.Message) -> None:
        with contextlib.suppress(channel.ChannelError):  # `_on_end` notices a lost master
            self._channel.send(message)

    # -- the end

    def _finish(self, patience: float) -> None:
        everyone = [*self._notifiers.values(), *(notifier for _, notifier in self._retired.values())]
        if self._finishing is not None:
            for one in everyone:
                one.hurry()
            return

        for one in everyone:
            one.finish(patience)

        async def finish() -> None:
            await asyncio.gather(*(one.close(patience) for one in everyone))
            self._send(notify_messages.Counted(self._counters()))
            self.done.set()

        self._finishing = self._loop.create_task(finish(), name="notify finish")

    def _on_end(self) -> None:
        self._finish(ALONE)


def _settings(row: dict[str, Any]) -> NotifySettings:
    command = row["command"]
    return NotifySettings(
        command=None if command is None else tuple(command), fifo=row["fifo"], batch=row["batch"], name=row["name"]
    )


async def _notify(sock: socket.socket) -> bool:
    notifying = Notifying(sock)
    await notifying.done.wait()
    notifying.close()
    return not notifying.failed


def main() -> None:
    """Run as `python -m proxy.notifyd FD UID GID LEVEL FORMAT`; only the master starts it."""
    sock = inherit(sys.argv[1:])
    for number in OURS:
        signal.signal(number, lambda *_: None)  # a handler, as programs would inherit SIG_IGN
    if not asyncio.run(_notify(sock)):
        sys.exit(1)


if __name__ == "__main__":
    main()
