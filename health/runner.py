"""Asks one question to one address and port again and again, for all its subscribers (H11).

A waiting runner costs one timer, and a running probe costs one run.  Each outcome goes to every subscriber.  The next run
is due at the earliest time that a subscriber wants it, according to that subscriber's intervals and verdict (H6).
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
    """Receives the outcomes of a runner."""

    @property
    def pace(self) -> Pace:
        """The subscriber's intervals."""

    @property
    def phase(self) -> Phase:
        """The phase that decides which interval applies."""

    def heard(self, outcome: Outcome, now: float) -> None:
        """Take in the outcome of a run; `now` in monotonic seconds.  Must not raise."""

    def hindered(self, fault: str) -> None:
        """Note that a fault on our side kept a run from a result; `fault` says which.  Must not raise."""


class Runner:
    """Runs one probe against the address and port of its spec.  `places` limits how many probes run at once."""

    def __init__(self, probe: Probe[Any], places: Places, rng: random.Random, waits: Waits) -> None:
        self.subscribers: list[Subscriber] = []
        self.last: Outcome | None = None
        self._at: float | None = None
        self.fault = ""  # text: the fault that kept the last run from judging the backend
        self._probe = probe
        self._places = places
        self._rng = rng
        self._schedule: Schedule | None = None
        self._wait = 0.0  # seconds that led to the present due time, before jitter
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
        """Schedule the first run for `due`, in monotonic seconds."""
        self._schedule = Schedule(due, self._fast(), self._rng)
        self._arm()

    def paces_changed(self) -> None:
        """Adapt to changed subscribers: a shorter interval applies at once, a longer one after the next run."""
        if self._schedule is None:
            return
        self._schedule.fast = self._fast()
        wait = self._shortest_wait()
        if wait < self._wait and self._schedule.shorten(self._loop.time(), wait):
            self._arm()
        self._wait = wait

    def hint(self) -> None:
        """Run soon, because traffic failed (H12)."""
        if self._schedule is not None and not self._probe.constant and self._schedule.hint(self._loop.time()):
            self._arm()

    def report(self) -> dict[str, Any]:
        """Return the last result in the form of `Monitor.report`."""
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
        """Stop, even during a run."""
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
