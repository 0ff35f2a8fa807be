"""The health child as the master sees it: started, watched, replaced, asked.

It may die or hang without harm: the verdicts stay, traffic goes on, and its successor starts from the last verdicts, so
that `fall` and `rise` hold across its death.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from proxy import messages
from proxy.child import FIRST_PAUSE, Child, Identity, Pace
from proxy.pulse import Pulse

SILENCE = 5.0  # s without a sign of life after which it is killed
START = 15.0  # s that it may take to be ready
REPORT_TIMEOUT = 1.0  # s that a status waits for what it has to say
HINTS = 64  # messages that may wait for it before hints are dropped: probing comes by itself

RUN_GRACE = 5.0  # s beyond its probes' own timeouts that a run by hand may take

Probes = Mapping[str, list[dict[str, Any]]]
Rows = list[dict[str, Any]]


class Prober:
    """The health process of a daemon.

    `targets()` is what it shall watch, `on_probed(change)` takes verdicts, `told(text)` records what happens to it,
    `on_alarm(alarm)` takes alarms, `means()` is what it must have before it watches: messages with their descriptors.
    """

    def __init__(
        self,
        identity: Identity,
        targets: Callable[[], list[dict[str, Any]]],
        on_probed: Callable[[messages.Probed], None],
        told: Callable[[str], None],
        *,
        on_alarm: Callable[[messages.Alarm], None] | None = None,
        means: Callable[[], Iterable[tuple[messages.Message, Sequence[int]]]] = tuple,
    ) -> None:
        self._identity = identity
        self._means = means
        self._on_alarm = on_alarm
        self._runs: dict[int, asyncio.Future[Rows]] = {}
        self._targets = targets
        self._on_probed = on_probed
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._child: Child | None = None
        self._waiting: asyncio.TimerHandle | None = None
        self._pace = Pace()
        self._pulse = Pulse()
        self._heard = 0
        self._asked = 0
        self._reports: dict[int, asyncio.Future[Probes]] = {}
        self._stopped = False

    @property
    def child(self) -> Child | None:
        """The process, if there is one."""
        return self._child

    def start(self) -> None:
        """Start it; where that is impossible now, it is tried again."""
        self._waiting = None
        if self._stopped or self._child is not None:
            return
        try:
            self._child = Child("proxy.healthd", self._identity, self._on_message, self._died)
        except OSError as error:
            self._told(f"cannot be started: {error}")
            self._start_later(self._pace.delay(0.0) or FIRST_PAUSE)
            return
        self._pulse = Pulse()

    def look(self, now: float) -> None:
        """Find one that hangs, or that is missing."""
        child = self._child
        if child is None:
            if self._waiting is None:
                self.start()
            return
        silence = self._pulse.silence(self._heard, now)
        limit = SILENCE if child.ready else START
        if child.alive and silence >= limit:
            self._told(f"no sign of life for {limit:g} s: pid {child.pid} is killed")
            self._pulse = Pulse()
            child.kill()

    def hint(self, hint: messages.Hint) -> None:
        """Pass on that real traffic failed on a backend."""
        child = self._child
        if child is not None and child.ready and child.channel.waiting < HINTS:
            child.send(hint)

    def send(self, message: messages.Message) -> None:
        """Tell it something that a successor will be told when it starts."""
        child = self._child
        if child is not None and child.ready:
            child.send(message)

    async def run(self, keys: list[str], patience: float) -> Rows | None:
        """Let it run the probes of these targets once; None if it has not done so within `patience` seconds and a grace."""
        child = self._child
        if child is None or not child.ready or not child.alive:
            return None
        self._asked += 1
        number = self._asked
        future: asyncio.Future[Rows] = self._loop.create_future()
        self._runs[number] = future
        try:
            child.send(messages.Run(number, keys))
            async with asyncio.timeout(patience + RUN_GRACE):
                return await future or None
        except TimeoutError:
            return None
        finally:
            self._runs.pop(number, None)

    async def report(self) -> Probes:
        """Return the last result of each probe by target; nothing if it has nothing to say within a second."""
        child = self._child
        if child is None or not child.ready or not child.alive:
            return {}
        self._asked += 1
        number = self._asked
        future: asyncio.Future[Probes] = self._loop.create_future()
        self._reports[number] = future
        try:
            child.send(messages.Ask(number))
            async with asyncio.timeout(REPORT_TIMEOUT):
                return await future
        except TimeoutError:
            return {}
        finally:
            self._reports.pop(number, None)

    def kill(self) -> None:
        """End it for good."""
        self._stopped = True
        if self._child is not None:
            self._child.kill()

    def _start_later(self, pause: float) -> None:
        self._waiting = self._loop.call_later(pause, self.start)

    def _died(self, how: str) -> None:
        child, self._child = self._child, None
        for future in self._reports.values():
            if not future.done():
                future.set_result({})
        for run in self._runs.values():
            if not run.done():
                run.set_result([])
        if self._stopped or child is None:
            return
        self._told(f"pid {child.pid} died, {how}: restarted, the verdicts stay")
        pause = self._pace.delay(self._loop.time() - child.started)
        if pause:
            self._start_later(pause)
        else:
            self.start()

    def _on_message(self, message: messages.Message, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        self._heard += 1
        match message:
            case messages.Ready() if self._child is not None and not self._child.ready:
                self._child.ready = True
                for means, sockets in self._means():
                    self._child.send(means, sockets)
                self._child.send(messages.Watch(self._targets()))
            case messages.Probed():
                self._on_probed(message)
            case messages.Alarm() if self._on_alarm is not None:
                self._on_alarm(message)
            case messages.Ran(number, rows):
                run = self._runs.pop(number, None)
                if run is not None and not run.done():
                    run.set_result(rows)
            case messages.Report(number, probes):
                future = self._reports.pop(number, None)
                if future is not None and not future.done():
                    future.set_result(probes)
