"""Keeps the verdicts of backends, and reports their changes.

A backend has one or more probes; each of their questions is asked by a runner, which it shares with every backend of
every service that asks the same (H11).  Each subscriber counts for itself, with its own `fall` and `rise`, and the
backend's verdict combines those of its probes (H15).  Slow probes delay no other: what is bounded is the number of open
probes, by the descriptors that this process may have (H5).
"""

import asyncio
import logging
import random
import resource
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from health.probes import make
from health.runner import Runner
from health.schedule import Pace, first_delay
from health.spec import ProbeSpec
from health.state import Health, Opinion, Outcome, Phase, Require, State, judge

_log = logging.getLogger("steelyard.health")

SPARE_FILES = 64  # descriptors that probes leave to the rest of the process
NOT_YET = "not probed yet"


@dataclass(frozen=True, slots=True)
class Target:
    """One backend of one service; `key` is opaque here ("service/backend").

    The key and the address are its identity: a target whose address changes is a new backend without a verdict.
    """

    key: str
    address: str
    port: int
    probes: tuple[ProbeSpec, ...]
    require: Require = "all"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A backend's verdict that changed, `at` in seconds of the wall clock, with the reason in words (H13)."""

    key: str
    state: State
    reason: str
    at: float
    previous: State


class Monitor:
    """Watches targets until closed.  Lives in one asyncio loop; `on_verdict` is called in it, for each change.

    A new target is `unknown` without a call.  `on_verdict` may be called before `watch` returns, where a shared probe
    already knows.  `max_open` bounds the probes that run at the same time, by default what the limit of open files
    leaves; further ones wait for a free place, which counts against nobody.
    """

    def __init__(
        self,
        on_verdict: Callable[[Verdict], None],
        *,
        rng: random.Random | None = None,
        max_open: int | None = None,
    ) -> None:
        self._on_verdict = on_verdict
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self._places = asyncio.Semaphore(max_open or _affordable())
        self._runners: dict[str, Runner] = {}
        self._backends: dict[str, _Backend] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    def watch(self, targets: Sequence[Target]) -> None:
        """Replace the set of targets; those that stay keep their verdicts, counts and timers (no probe starts anew).

        A probe that is new to a target with a verdict starts from that verdict.  Raises `NotSupported` for a probe
        that this version has not, and ValueError for a key given twice; nothing has changed then.
        """
        if self._closed:
            raise RuntimeError("the monitor is closed")
        doubled = [key for key, count in Counter(target.key for target in targets).items() if count > 1]
        if doubled:
            raise ValueError(f"targets given twice: {', '.join(doubled)}")
        wanted = {target.key: _addressed(target) for target in targets}
        asked = {question: spec for probes in wanted.values() for question, spec in probes}
        made = {question: make(spec) for question, spec in asked.items() if question not in self._runners}
        fresh = [Runner(probe, self._places, self._rng) for probe in made.values()]
        self._runners.update(zip(made, fresh, strict=True))
        for runner in self._runners.values():
            runner.subscribers = []
        previous, self._backends = self._backends, {}
        for target in targets:
            self._backends[target.key] = self._backend(target, wanted[target.key], previous.get(target.key))
        now = asyncio.get_running_loop().time()
        for question, runner in list(self._runners.items()):
            if runner.subscribers:
                runner.paces_changed()
            elif ending := self._runners.pop(question).close():
                self._ending.add(ending)
                ending.add_done_callback(self._ending.discard)
        for position, runner in enumerate(fresh):
            runner.begin(now + first_delay(position, len(fresh), runner.interval))
        for backend in list(self._backends.values()):
            self._settle(backend)

    def hint(self, key: str) -> None:
        """Probe `key` soon, because traffic to it failed; at most once a fast interval (H12).  Unknown keys: no-op."""
        backend = self._backends.get(key)
        for subscription in backend.subscriptions if backend else ():
            subscription.runner.hint()

    def report(self) -> dict[str, list[dict[str, Any]]]:
        """Return what each probe of each target found last, in the order of the configuration.

        key -> [{type, ok, reason, latency_ms, at}]; `ok`, `latency_ms` and `at` (wall clock, seconds) are None before
        the first result.  A probe that this host could not run keeps its last result, with a reason that says so.
        """
        return {
            key: [subscription.runner.report() for subscription in backend.subscriptions]
            for key, backend in self._backends.items()
        }

    def states(self) -> dict[str, tuple[State, str]]:
        """Return each target's verdict and its reason."""
        return {key: (backend.state, backend.reason) for key, backend in self._backends.items()}

    async def close(self) -> None:
        """Stop; afterwards no task, timer or descriptor of a probe is left."""
        self._closed = True
        tasks = [*self._ending, *(task for runner in self._runners.values() if (task := runner.close()))]
        self._runners.clear()
        self._backends.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _backend(self, target: Target, probes: "_Questions", before: "_Backend | None") -> "_Backend":
        """Return `target` with its subscriptions, those of the backend that it was `before` kept."""
        same = before is not None and (before.target.address, before.target.port) == (target.address, target.port)
        state: State = before.state if before and same else "unknown"
        kept = before.subscriptions if before and same else []
        backend = _Backend(target, self._settle)
        for question, spec in probes:
            runner = self._runners[question]
            subscription = next((one for one in kept if one.question == question), None)
            if subscription:
                kept.remove(subscription)
                subscription.move(backend, spec)
            else:
                subscription = _Subscription(backend, spec, runner, question, state)
                if runner.last:
                    subscription.count(runner.last, asyncio.get_running_loop().time())
            backend.subscriptions.append(subscription)
            runner.subscribers.append(subscription)
        if before:
            backend.state, backend.reason = before.state, before.reason
        return backend

    def _settle(self, backend: "_Backend") -> None:
        """Combine the verdicts of a backend's probes into its own, and report it when it changed."""
        if self._backends.get(backend.target.key) is not backend:
            return
        opinions = [subscription.opinion for subscription in backend.subscriptions]
        previous = backend.state
        backend.state, backend.reason = judge(opinions, backend.target.require)
        if backend.state == previous:
            return
        verdict = Verdict(backend.target.key, backend.state, backend.reason, time.time(), previous)
        try:
            self._on_verdict(verdict)
        except Exception:  # the probes go on whatever the listener does
            _log.exception("the verdict %s of %s could not be reported", verdict.state, verdict.key)


class _Backend:
    """A target, its probes' subscriptions and the verdict that was told."""

    __slots__ = ("reason", "settle", "state", "subscriptions", "target")

    def __init__(self, target: Target, settle: Callable[["_Backend"], None]) -> None:
        self.target = target
        self.settle = settle
        self.subscriptions: list[_Subscription] = []
        self.state: State = "unknown"
        self.reason = NOT_YET


class _Subscription:
    """One probe of one backend: its own counting of what the shared runner finds, from `state` on."""

    __slots__ = ("backend", "health", "pace", "question", "reason", "runner", "spec")

    def __init__(self, backend: _Backend, spec: ProbeSpec, runner: Runner, question: str, state: State) -> None:
        self.runner = runner
        self.question = question
        self.health = Health(spec.fall, spec.rise, state)
        self.reason = NOT_YET if state == "unknown" else f"{NOT_YET}, taken as {state}"
        self.move(backend, spec)

    def move(self, backend: _Backend, spec: ProbeSpec) -> None:
        """Belong to a new configuration of the same question: another pace, other limits, the same verdict."""
        self.backend = backend
        self.spec = spec
        self.pace = Pace(spec.interval, spec.fast_interval, spec.down_interval)
        self.health.fall, self.health.rise = spec.fall, spec.rise

    @property
    def phase(self) -> Phase:
        """Which interval applies."""
        return self.health.phase

    @property
    def opinion(self) -> Opinion:
        """What this probe contributes to the backend's verdict."""
        label = f"{self.spec.type} {self.spec.port}" if self.spec.port else self.spec.type
        return Opinion(label, self.health.state, self.reason, self.spec.report_only)

    def count(self, outcome: Outcome, now: float) -> bool:
        """Count an outcome; whether the probe's verdict changed."""
        change = self.health.observe(outcome, now)
        if change:
            self.reason = change.reason
        return change is not None

    def heard(self, outcome: Outcome, now: float) -> None:
        """Count an outcome, and settle the backend's verdict if it may have changed."""
        if self.count(outcome, now):
            self.backend.settle(self.backend)


_Questions = list[tuple[str, ProbeSpec]]


def _addressed(target: Target) -> _Questions:
    """Return the target's probes with their addresses and ports filled in, each with its question, which is whole then."""
    filled = [
        spec.model_copy(
            update={
                "address": spec.address or target.address,
                "port": (spec.port or target.port) if spec.needs_port else spec.port,
            }
        )
        for spec in target.probes
    ]
    return [(spec.question(), spec) for spec in filled]


def _affordable() -> int:
    """Return how many probes may be open at once, by the limit of open files."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, limit - SPARE_FILES) if limit != resource.RLIM_INFINITY else 1 << 20
