"""The health process as the master sees it: its targets, its verdicts, its answers.

It may die or hang without harm: the verdicts stay, traffic goes on, and its successor starts from the last verdicts, so
that `fall` and `rise` hold across its death.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from proxy.processes.child import Child, Identity
from proxy.processes.keeper import Kept
from proxy.processes.messages import common as messages
from proxy.processes.messages import health as health_messages

SILENCE = 5.0  # s without a sign of life after which it is killed
REPORT_TIMEOUT = 1.0  # s that a status waits for what it has to say
HINTS = 64  # messages that may wait for it before hints are dropped: probing comes by itself

RUN_GRACE = 5.0  # s beyond its probes' own timeouts that a run by hand may take

Probes = Mapping[str, list[dict[str, Any]]]
Timings = Mapping[str, Sequence[Sequence[float | None]]]
Rows = list[dict[str, Any]]


class Prober:
    """The health process of a daemon.

    `targets()` returns its targets, `on_probed(change)` takes verdicts, `told(text)` records events, `on_alarm(alarm)`
    takes alarms, `on_measured(change)` takes what a weight follows, `means()` returns the messages, with descriptors, that it needs before its targets.  `on_begun()` is
    called when the process, or a successor, has got its targets.
    """

    def __init__(
        self,
        identity: Identity,
        targets: Callable[[], list[dict[str, Any]]],
        on_probed: Callable[[health_messages.Probed], None],
        told: Callable[[str], None],
        *,
        on_alarm: Callable[[health_messages.Alarm], None] | None = None,
        on_measured: Callable[[health_messages.Measured], None] = lambda _: None,
        means: Callable[[], Iterable[tuple[messages.Message, Sequence[int]]]] = tuple,
        on_begun: Callable[[], None] = lambda: None,
    ) -> None:
        self.timings: Timings = {}
        """The times of each probe by target as the last `report` had them, and the life of health that they are of."""
        self.life = 0
        self._means = means
        self._on_begun = on_begun
        self._on_alarm = on_alarm
        self._on_measured = on_measured
        self._targets = targets
        self._on_probed = on_probed
        self._kept = Kept(
            "proxy.healthd", identity, silence=SILENCE, on_ready=self._begin, on_message=self._take,
            told=told, afterwards="restarted, the verdicts stay",
        )  # fmt: skip
        self.start, self.look, self.kill = self._kept.start, self._kept.look, self._kept.kill
        self.resume = self._kept.resume
        self.send, self.log = self._kept.send, self._kept.log

    @property
    def child(self) -> Child | None:
        """The process, if there is one."""
        return self._kept.child

    @property
    def children(self) -> list[Child]:
        """The process as a list, empty without one."""
        return self._kept.children

    def watch(self) -> None:
        """Tell health its targets anew."""
        self._kept.send(health_messages.Watch(self._targets()))

    def suspect(self, key: str) -> None:
        """Tell health that real traffic failed on a target."""
        child = self.child
        if child is not None and child.channel.waiting < HINTS:
            self._kept.send(health_messages.Suspect(key))

    async def run(self, keys: list[str], patience: float) -> Rows | str:
        """Run the probes of these targets once, within `patience` seconds and a grace; return the rows, or why not."""
        answer = await self._kept.ask(lambda number: health_messages.Run(number, keys), patience + RUN_GRACE)
        if not isinstance(answer, health_messages.Ran):
            return "the health process is starting or busy: try again"
        return answer.busy or answer.rows

    async def report(self) -> Probes:
        """Return the last result of each probe by target; nothing if there is no answer within a second."""
        answer = await self._kept.ask(messages.Ask, REPORT_TIMEOUT)
        if not isinstance(answer, health_messages.Report):
            return {}
        self.timings = answer.timings
        return answer.probes

    def _begin(self) -> None:
        self.life += 1
        for means, sockets in self._means():
            self._kept.send(means, sockets)
        self._kept.send(health_messages.Watch(self._targets()))
        self._on_begun()

    def _take(self, message: messages.Message) -> None:
        match message:
            case health_messages.Probed():
                self._on_probed(message)
            case health_messages.Measured():
                self._on_measured(message)
            case health_messages.Alarm() if self._on_alarm is not None:
                self._on_alarm(message)
