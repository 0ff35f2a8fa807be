"""The health child as the master sees it: what it is told, what it reports, what it is asked.

It may die or hang without harm: the verdicts stay, traffic goes on, and its successor starts from the last verdicts, so
that `fall` and `rise` hold across its death.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from proxy import messages
from proxy.child import Child, Identity
from proxy.kept import Kept

SILENCE = 5.0  # s without a sign of life after which it is killed
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
        self._means = means
        self._on_alarm = on_alarm
        self._runs: dict[int, asyncio.Future[Rows]] = {}
        self._targets = targets
        self._on_probed = on_probed
        self._loop = asyncio.get_running_loop()
        self._asked = 0
        self._reports: dict[int, asyncio.Future[Probes]] = {}
        self._kept = Kept(
            "proxy.healthd", identity, silence=SILENCE, on_ready=self._begin, on_message=self._take,
            on_death=self._forget, told=told, afterwards="restarted, the verdicts stay",
        )  # fmt: skip
        self.start, self.look, self.kill = self._kept.start, self._kept.look, self._kept.kill
        self.send = self._kept.send

    @property
    def child(self) -> Child | None:
        """The process, if there is one."""
        return self._kept.child

    def hint(self, hint: messages.Hint) -> None:
        """Pass on that real traffic failed on a backend."""
        child = self.child
        if child is not None and child.channel.waiting < HINTS:
            self._kept.send(hint)

    async def run(self, keys: list[str], patience: float) -> Rows | None:
        """Let it run the probes of these targets once; None if it has not done so within `patience` seconds and a grace."""
        child = self._kept.ready
        if child is None:
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
        child = self._kept.ready
        if child is None:
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

    def _forget(self) -> None:
        """Tell those who wait for a dead process that there is nothing."""
        for future in self._reports.values():
            if not future.done():
                future.set_result({})
        for run in self._runs.values():
            if not run.done():
                run.set_result([])

    def _begin(self) -> None:
        for means, sockets in self._means():
            self._kept.send(means, sockets)
        self._kept.send(messages.Watch(self._targets()))

    def _take(self, message: messages.Message) -> None:
        match message:
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
