"""Passive ejection in the master: workers report backends that fail, the master ejects them for all workers."""

import asyncio
import math
from collections.abc import Callable, Collection, Iterable

from health.units import format_duration
from proxy.backends.effective import Running, written
from proxy.backends.ejection import Ejections, Record
from proxy.backends.memory import EjectionRow
from proxy.config.model import BackendKey, Service
from proxy.records.timeline import Tell
from proxy.words import counted


class Ejecting:
    """The ejected backends of all services.

    `usable(service)` names the backends that could serve; `on_change(backend, out)` is called for each change.
    """

    def __init__(
        self,
        running: Running,
        tell: Tell,
        usable: Callable[[str], Collection[str]],
        on_change: Callable[[BackendKey, bool], None],
    ) -> None:
        self._running = running
        self._tell = tell
        self._usable = usable
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._running = running
        self._services: dict[str, Ejections] = {}
        self._reasons: dict[BackendKey, str] = {}  # of the ejected backends
        self._kept: set[BackendKey] = set()  # backends of which the event "not ejected" has been recorded
        self._timers: dict[str, asyncio.TimerHandle] = {}
        for service in running.services.values():
            self._adapt(service)

    def failing(self, key: BackendKey, failures: int, at: float) -> None:
        """Eject a backend, if allowed, after `failures` failures in a row in one worker, the last `at` (Unix time)."""
        ejections = self._services.get(key[0])
        if ejections is None or key in self._reasons or key[1] not in self._usable(key[0]):
            return  # it gets no new clients already
        text = f"{counted(failures, 'failure')} of real traffic in a row"
        period = ejections.eject(key[1], self._usable(key[0]), self._loop.time())
        if period is None:
            if key not in self._kept:
                self._kept.add(key)
                self._tell(
                    "eject", written(key), f"not ejected, too few backends would remain: {text}", level="warning", at=at
                )
            return
        self._kept.discard(key)
        how = "until a restart" if period == math.inf else f"for {format_duration(period)}"
        self._reasons[key] = f"ejected {how}: {text}"
        self._tell("eject", written(key), self._reasons[key], level="warning", at=at, seconds=period)
        self._arm(key[0])
        self._on_change(key, True)

    def reason(self, key: BackendKey) -> str | None:
        """Return why a backend is ejected, None if it is not."""
        return self._reasons.get(key)

    def verdicts_changed(self, service: str) -> None:
        """Let the ejected backends of a service back if no other backend could serve any more."""
        ejections = self._services.get(service)
        if ejections is not None and ejections.out:
            self._back(service, ejections.release(self._usable(service), self._loop.time()), "no other backend is left")

    def changed(self, services: Collection[str]) -> None:
        """Take note that these services have other backends or settings, or are gone; ejected backends stay ejected."""
        for name in services:
            service = self._running.services.get(name)
            if service is not None and service.eject.errors:
                self._adapt(service)
            elif (ejections := self._services.get(name)) is not None:
                self._back(name, ejections.release((), self._loop.time()), "the service ejects no backends any more")
                del self._services[name]

    def _adapt(self, service: Service) -> None:
        eject = service.eject
        if service.name in self._services:
            self._services[service.name].adapt(_size(service), eject.time, eject.max_share)
        elif eject.errors:
            self._services[service.name] = Ejections(_size(service), eject.time, eject.max_share)

    def forget(self, key: BackendKey) -> None:
        """End an ejection, as an operator has changed the backend's state."""
        ejections = self._services.get(key[0])
        self._kept.discard(key)
        if ejections is not None and ejections.forget(key[1]):
            del self._reasons[key]
            self._tell("eject", written(key), "no longer ejected: an operator has changed its state")
            self._arm(key[0])

    def remembered(self) -> tuple[EjectionRow, ...]:
        """Return what a successor of this daemon must know."""
        return tuple(
            EjectionRow(
                service=service, backend=name, until=one.until, count=one.count, out=one.out,
                reason=self._reasons.get((service, name), ""),
            )
            for service, ejections in self._services.items()
            for name, one in ejections.records.items()
        )  # fmt: skip

    def restore(self, rows: Iterable[EjectionRow]) -> None:
        """Take what a predecessor knew, in the place of all that is known here."""
        for name, ejections in self._services.items():
            for backend in list(ejections.records):
                ejections.forget(backend)
                self._reasons.pop((name, backend), None)
        for row in rows:
            if row.service not in self._services or (row.service, row.backend) not in self._running.backends:
                continue
            self._services[row.service].restore(row.backend, Record(row.until, row.count, row.out))
            if row.out:
                self._reasons[row.service, row.backend] = row.reason
        for name in self._services:
            self._arm(name)

    def _arm(self, service: str) -> None:
        timer = self._timers.pop(service, None)
        if timer is not None:
            timer.cancel()
        when = self._services[service].next_deadline
        if when is not None and when != math.inf:
            self._timers[service] = self._loop.call_at(when, self._over, service)

    def _over(self, service: str) -> None:
        self._back(service, self._services[service].over(self._loop.time()), "the time is over")

    def _back(self, service: str, names: Collection[str], why: str) -> None:
        for name in names:
            del self._reasons[service, name]
            self._tell("eject", written((service, name)), f"no longer ejected: {why}")
            self._on_change((service, name), False)
        self._arm(service)


def _size(service: Service) -> int:
    """Return how many backends of a service have a weight."""
    return sum(backend.weight > 0 for backend in service.backends)
