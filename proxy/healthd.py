"""The health child: `health.monitor` behind the master's channel, on stdlib asyncio, without privileges.

A process of its own, so that what hostile servers may do to a probe can hurt nothing else.
"""

import asyncio
import base64
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from typing import Any, cast

import dns.rdata
from pydantic import TypeAdapter

from health.backend import Target
from health.icmp import Echoes
from health.monitor import Monitor, Verdict
from health.probes import load_all
from health.secrets import Secrets
from health.services import Alarm
from health.spec import ProbeSpec
from proxy.processes import channel
from proxy.processes.messages import common as messages
from proxy.processes.messages import health as health_messages
from proxy.processes.signals import OURS
from proxy.processes.startup import inherit
from proxy.records import log

BEAT = 1.0  # s between signs of life
CROWDED = 256  # messages that wait for the master; while there are more, only the last verdict on each backend is kept
RUNS = 16  # runs asked for by hand that go on at a time
FAREWELL = 2.0  # s that the probes may take to end
YOUNG = 20_000  # objects that come into being, less those that went, before the collector looks for cycles among them

_log = logging.getLogger("steelyard.health")
_PROBES: TypeAdapter[tuple[ProbeSpec, ...]] = TypeAdapter(tuple[ProbeSpec, ...])


class Health:
    """The orders of the master, carried out on the monitor."""

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._secrets = Secrets()
        self._echoes = Echoes()
        self._monitor = Monitor(self._on_verdict, on_alarm=self._on_alarm, secrets=self._secrets, echoes=self._echoes)
        self._runs: set[asyncio.Task[None]] = set()
        self.done = asyncio.Event()
        self.failed = False
        self._late: dict[str, health_messages.Probed] = {}
        self._channel = channel.Channel(sock, self._on_message, self.done.set)
        self._send(messages.Ready(os.getpid()))
        self._beat()

    async def close(self) -> None:
        """End every probe."""
        self._channel.close()
        for run in self._runs:
            run.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._monitor.close(), FAREWELL)
        self._echoes.close()

    def _send(self, message: messages.Message) -> None:
        try:
            self._channel.send(message)
        except channel.ChannelError:
            # The master is gone, and without it no process needs the verdicts.
            self.done.set()

    @property
    def _crowded(self) -> bool:
        return self._channel.waiting >= CROWDED

    def _beat(self) -> None:
        self._loop.call_later(BEAT, self._beat)
        while self._late and not self._crowded:
            self._send(self._late.pop(next(iter(self._late))))
        if not self._crowded:
            self._send(messages.Beat())

    def _on_verdict(self, verdict: Verdict) -> None:
        weight = -1 if verdict.weight is None else verdict.weight
        message = health_messages.Probed(
            verdict.key, verdict.state, verdict.reason, verdict.at, weight, verdict.unjudged
        )
        if self._crowded or verdict.key in self._late:
            self._late[verdict.key] = message
        else:
            self._send(message)

    def _on_alarm(self, alarm: Alarm) -> None:
        state = "raised" if alarm.active else "over"
        self._send(health_messages.Alarm(alarm.service, alarm.text, state, alarm.at, alarm.about))

    def _on_message(self, message: messages.Message, fds: list[int]) -> None:
        try:
            if isinstance(message, health_messages.Icmp):
                while fds:
                    self._echoes.adopt(socket.socket(fileno=fds.pop()))
            for fd in fds:
                os.close(fd)
            self._obey(message)
        except Exception:
            # Who does not watch what it should, and still beats, is worse than none: a successor may do better.
            _log.exception("%s could not be obeyed: giving up", type(message).__name__)
            self.failed = True
            self.done.set()

    def _obey(self, message: messages.Message) -> None:
        match message:
            case health_messages.Watch(rows):
                self._monitor.watch([target(row) for row in rows])
            case health_messages.Suspect(key):
                self._monitor.hint(key)
            case messages.Level(level, form):
                log.change(level, cast("log.Format", form))
            case messages.Ask(number):
                self._send(health_messages.Report(number, self._monitor.report()))
            case health_messages.Secrets(files):
                held = {path: why or base64.b64decode(text) for path, (text, why) in files.items()}
                self._monitor.secrets_changed(self._secrets.update(held))
            case health_messages.Run(number, keys) if len(self._runs) < RUNS:
                run = self._loop.create_task(self._run(number, keys), name=f"run {number}")
                self._runs.add(run)
                run.add_done_callback(self._runs.discard)
            case health_messages.Run(number):
                self._send(health_messages.Ran(number, [], f"{RUNS} probe runs are in progress already: try again"))

    async def _run(self, number: int, keys: list[str]) -> None:
        self._send(health_messages.Ran(number, await self._monitor.run_now(keys)))


def target(row: dict[str, Any]) -> Target:
    """Read one target as `proxy.backends.targets.target` wrote it."""
    probes = _PROBES.validate_python(row["probes"])
    return Target(
        key=row["key"], address=row["address"], port=row["port"], probes=probes, require=row["require"],
        state=row["state"], weight=row.get("weight"), service=row.get("service", ""), name=row.get("name", ""),
    )  # fmt: skip


async def _watch(sock: socket.socket) -> bool:
    health = Health(sock)
    await health.done.wait()
    await health.close()
    return not health.failed


def _import_all() -> None:
    """Import what would else be imported when it is first needed: it may lie where only root can read."""
    dns.rdata.load_all_types()  # type: ignore[no-untyped-call]
    load_all()


def _collect_rarely() -> None:
    """Let the garbage collector pass over what was imported, and look for more only after many probes.

    A probe leaves no cycles; looking for them after each batch took a tenth of this process's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG)


def main() -> None:
    """Run as `python -m proxy.healthd FD UID GID LEVEL FORMAT`, started by the master only."""
    _import_all()
    _collect_rarely()
    sock = inherit(sys.argv[1:])
    for number in OURS:
        # Not ignored, which what a script probe runs would inherit: its own children must be able to end each other.
        signal.signal(number, lambda *_: None)
    if not asyncio.run(_watch(sock)):
        sys.exit(1)


if __name__ == "__main__":
    main()
