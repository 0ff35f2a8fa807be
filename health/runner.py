"""One question to one address and port, asked again and again on behalf of all who want to know (H11).

A waiting runner is one timer, a running probe one run.  Each outcome goes to every subscriber; the next run is due when
the first of them wants it, by its own intervals and its own verdict (H6).
"""

import asyncio
import random
import time
from typing import Any, Protocol

from health.probes import attempt_once
from health.probes.base import OurFault, Probe
from health.run import Run
from health.schedule import Pace, Schedule
from health.state import Outcome, Phase
from health.waiting import Moment, Places, Waits


class Subscriber(Protocol):
    """Somebody who wants to know what a runner finds."""

    @property
    def pace(self) -> Pace:
        """Its intervals."""

    @property
    def phase(self) -> Phase:
        """Which of them applies."""

    def heard(self, outcome: Outcome, now: float) -> None:
        """Take in what a run found; `now` in monotonic seconds.  Must not raise."""

    def hindered(self, fault: str) -> None:
        """Take in that a run found nothing through our own fault; the words say why.  Must not raise."""


class Runner:
    """Runs one probe; `address` and `port` are those of its spec.  `places` bounds the probes that run at once."""

    def __init__(self, probe: Probe[Any], places: Places, rng: random.Random, waits: Waits) -> None:
        self.subscribers: list[Subscriber] = []
        self.last: Outcome | None = None
        self._at: float | None = None
        self.fault = ""  # what kept the last run from judging the backend, in words
        self._probe = probe
        self._places = places
        self._rng = rng
        self._schedule: Schedule | None = None
        self._wait = 0.0  # seconds, what the present due time was reckoned with, before jitter
        self._timer: Moment | None = None
        self._running: Run | None = None
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._waits = waits

    @property
    def interval(self) -> float:
        """The shortest regular interval of the subscribers, in seconds."""
        return min(subscriber.pace.interval for subscriber in self.subscribers)

    def begin(self, due: float) -> None:
        """Make the first run due at `due`, monotonic seconds."""
        self._schedule = Schedule(due, self._fast(), self._rng)
        self._arm()

    def paces_changed(self) -> None:
        """Follow a change of the subscribers: a shorter interval applies at once, a longer one after the next run."""
        if self._schedule is None:
            return
        self._schedule.fast = self._fast()
        wait = self._shortest_wait()
        if wait < self._wait and self._schedule.shorten(self._loop.time(), wait):
            self._arm()
        self._wait = wait

    def hint(self) -> None:
        """Run soon, for traffic failed (H12)."""
        if self._schedule is not None and not self._probe.constant and self._schedule.hint(self._loop.time()):
            self._arm()

    def report(self) -> dict[str, Any]:
        """Return the last result as `Monitor.report` shows it."""
        last = self.last
        return {
            "type": self._probe.spec.type,
            "ok": last.ok if last else False if self.fault else None,
            "standby": last.standby if last else False,
            "reason": self.fault or (last.reason if last else "not probed yet"),
            "latency_ms": round(last.latency * 1000, 3) if last else None,
            "at": self._at,
        }

    def close(self) -> None:
        """Stop, in the midst of a run too."""
        self._closed = True
        if self._timer:
            self._timer.cancel()
        if self._running:
            self._running.cancel()

    def _fast(self) -> float:
        return min(subscriber.pace.fast for subscriber in self.subscribers)

    def _shortest_wait(self) -> float:
        return min([subscriber.pace.wait(subscriber.phase) for subscriber in self.subscribers])

    def _arm(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if not self._closed and self._schedule is not None and self._schedule.due is not None:
            self._timer = self._waits.at(self._schedule.due, self._start)

    def _start(self) -> None:
        self._timer = None
        if self._schedule is not None:
            self._schedule.started(self._loop.time())
            self._running = Run(self._waits, self._run(self._schedule))
            self._running.begin()

    async def _run(self, schedule: Schedule) -> None:
        spec = self._probe.spec
        outcome: Outcome | None = None
        if not self._places.take():
            await self._places.turn()
            schedule.started(self._loop.time())
        try:
            try:
                outcome, _ = await attempt_once(
                    self._probe, spec.address or "", spec.port or 0, recording=False, waits=self._waits
                )
                self.fault = ""
            except OurFault as fault:
                self.fault = f"could not probe: {fault}"
        finally:
            self._places.give()
        self._running = None
        now = self._loop.time()
        if outcome is not None:
            self.last = outcome
        if outcome is not None or self.last is None:
            self._at = time.time()
        for subscriber in list(self.subscribers):
            if outcome is None:
                subscriber.hindered(self.fault)
            else:
                subscriber.heard(outcome, now)
        if self.subscribers and not (self._probe.constant and outcome):
            self._wait = self._shortest_wait()
            schedule.finished(now, self._wait)
            self._arm()
