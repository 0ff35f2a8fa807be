"""Keeps the verdicts of backends, and reports their changes.

A backend has one or more probes.  A runner asks each question once for all backends of all services that ask the same
(H11).  Each subscriber counts for itself, with its own `fall` and `rise`, and the backend's verdict combines the verdicts
of its probes (H15).  Slow probes do not delay the others.  The number of open probes is limited by the descriptors that
this process may have (H5).

The backends of one service share some results (`health.services`).  If only a fault on our side keeps a backend from a
verdict, such as a login that all backends refuse, the backend is reported as `unjudged`.
"""

import asyncio
import copy
import logging
import random
import resource
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from health.backend import Backend, Subscription, Target
from health.compare import Peer
from health.icmp import Echoes
from health.measure import Measured
from health.probes import attempt_once, make, not_run, told
from health.probes.base import OurFault
from health.runner import Runner
from health.schedule import first_delay
from health.secrets import KINDS, Source
from health.services import Alarm, Services, log_alarm
from health.spec import ProbeSpec
from health.state import Outcome, State, judge, unjudged
from health.waiting import Places, Waits

_log = logging.getLogger("steelyard.health")

SPARE_FILES = 64  # descriptors that probes leave to the rest of the process


@dataclass(frozen=True, slots=True)
class Verdict:
    """A changed verdict of a backend, `at` in seconds of the wall clock, with the reason as text (H13).

    `weight` is the weight that the backend asks for, None for the configured one.  If only the weight changed, `previous`
    equals `state`.  `unjudged` is True if only a fault on our side keeps an unknown backend from a verdict, such as a
    login that all backends refuse.
    """

    key: str
    state: State
    reason: str
    at: float
    previous: State
    weight: int | None = None
    unjudged: bool = False


class Monitor:
    """Watches targets until closed.  Belongs to one asyncio loop and calls `on_verdict` there for each change.

    A new target is `unknown`, without a call.  If a shared probe already has a result, `on_verdict` may be called before
    `watch` returns.  `max_open` limits the probes that run at the same time; the default is what the limit of open files
    leaves.  Further probes wait for a free place, and this time does not count against their backends.  `on_alarm` is
    called like `on_verdict`; the default logs the alarm.  `secrets` has the passwords (None: the probes read the files).
    `echoes` sends pings for a process that may not send any itself.  `on_measure(key, measured)` takes the smoothed
    measures of targets with `weight_from`.
    """

    def __init__(
        self,
        on_verdict: Callable[[Verdict], None],
        *,
        rng: random.Random | None = None,
        max_open: int | None = None,
        on_alarm: Callable[[Alarm], None] | None = None,
        secrets: Source | None = None,
        echoes: Echoes | None = None,
        on_measure: Callable[[str, Measured], None] = lambda _key, _found: None,
    ) -> None:
        self._on_verdict = on_verdict
        self._secrets = secrets
        self._echoes = echoes
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self._waits = Waits()
        self._places = Places(max_open or _affordable())
        self._runners: dict[str, Runner] = {}
        self._backends: dict[str, Backend] = {}
        self._services = Services(self._settle, self.hint, on_alarm or log_alarm, on_measure)
        self._closed = False

    def watch(self, targets: Sequence[Target]) -> None:
        """Replace the set of targets; those that stay keep their verdicts, counts and timers (no probe starts anew).

        A probe that is new to a target with a verdict starts from that verdict.  Raises `NotSupported` for a probe
        that this version does not have, and ValueError for a duplicate key; in both cases nothing has changed.
        """
        if self._closed:
            raise RuntimeError("the monitor is closed")
        doubled = [key for key, count in Counter(target.key for target in targets).items() if count > 1]
        if doubled:
            raise ValueError(f"targets given twice: {', '.join(doubled)}")
        wanted = {target.key: _addressed(target) for target in targets}
        asked = {question: spec for probes in wanted.values() for question, spec in probes}
        made = {
            question: make(spec, self._secrets, self._echoes)
            for question, spec in asked.items()
            if question not in self._runners
        }
        fresh = [Runner(probe, self._places, self._rng, self._waits) for probe in made.values()]
        self._runners.update(zip(made, fresh, strict=True))
        for runner in self._runners.values():
            runner.subscribers = []
        previous, self._backends = self._backends, {}
        joined: list[Subscription] = []
        for target in targets:
            self._backends[target.key] = self._backend(target, wanted[target.key], previous.get(target.key), joined)
        self._services.acquaint(self._backends)
        now = asyncio.get_running_loop().time()
        for subscription in joined:  # earlier results count only now, because comparisons need the whole service
            if subscription.runner.last:
                subscription.count(subscription.runner.last, now)
            if subscription.runner.fault:
                subscription.hindered(subscription.runner.fault)
        for question, runner in list(self._runners.items()):
            if runner.subscribers:
                runner.paces_changed()
            else:
                self._runners.pop(question).close()
        for position, runner in enumerate(fresh):
            runner.begin(now + first_delay(position, len(fresh), runner.interval))
        for backend in list(self._backends.values()):
            self._settle(backend)

    def hint(self, key: str) -> None:
        """Probe `key` soon because traffic to it failed; at most once a fast interval (H12).  Ignores unknown keys."""
        backend = self._backends.get(key)
        for subscription in backend.subscriptions if backend else ():
            subscription.runner.hint()

    def secrets_changed(self, paths: Collection[str]) -> None:
        """Run soon each probe that uses a file of `paths`, such as a password or CA certificates."""
        for backend in self._backends.values():
            for subscription in backend.subscriptions:
                if any(getattr(subscription.spec, key, None) in paths for key in KINDS):
                    subscription.runner.hint()

    async def run_now(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """Run each probe of the targets `keys` once, besides the regular runs, and return the results.

        [{key, type, address, port, report_only, ok, reserve, standby, reason, latency_ms, transcript}].  A question that
        several probes share is asked once.  Values are compared with those of the service's other backends from this run
        or an earlier one.  No result counts for a verdict.  If this host could not run a probe, `ok` is False.
        """
        rows = [
            (key, subscription)
            for key in keys
            if (backend := self._backends.get(key))
            for subscription in backend.subscriptions
        ]
        asked = dict.fromkeys(subscription.question for _, subscription in rows)
        specs = {subscription.question: subscription.spec for _, subscription in rows}
        found = dict(zip(asked, await asyncio.gather(*(self._run_now(specs[one]) for one in asked)), strict=True))
        fresh = {
            (key, subscription.subject): value
            for key, subscription in rows
            if (value := found[subscription.question][0].value) is not None
        }
        return [
            {
                "key": key,
                "type": subscription.spec.type,
                "address": subscription.spec.address,
                "port": subscription.spec.port,
                "report_only": subscription.spec.report_only,
                **told(
                    *found[subscription.question], self._behind(subscription, found[subscription.question][0], fresh)
                ),
            }
            for key, subscription in rows
        ]

    async def _run_now(self, spec: ProbeSpec) -> tuple[Outcome, list[str]]:
        if not self._places.take():
            await self._places.turn()
        try:
            probe = make(spec, self._secrets, self._echoes)
            return await attempt_once(probe, spec.address or "", spec.port or 0)
        except OurFault as fault:
            return not_run(fault)
        finally:
            self._places.give()

    def _behind(
        self, subscription: Subscription, outcome: Outcome, fresh: Mapping[tuple[str, str | None], float]
    ) -> str:
        """Return how far the result of a run by hand is behind the other backends, as text, "" if it is not."""
        backend, what = subscription.backend, subscription.subject
        if subscription.lag is None or what is None or outcome.value is None:
            return ""
        peers = [
            Peer(peer.name, fresh.get((key, what), peer.value))
            for key, peer in self._services.in_service(backend, what).items()
        ]
        now = asyncio.get_running_loop().time()
        return copy.copy(subscription.lag).observe(outcome.value, peers, now, first=backend.state == "unknown")

    def report(self) -> dict[str, list[dict[str, Any]]]:
        """Return the last result of each probe of each target, in the order of the configuration.

        key -> [{type, ok, standby, reason, latency_ms, at}]; `ok`, `latency_ms` and `at` (wall clock, seconds) are None
        before the first result.  If this host could not run a probe, the last result stays and the reason says so; without
        an earlier result `ok` is False.
        """
        return {
            key: [subscription.report() for subscription in backend.subscriptions]
            for key, backend in self._backends.items()
        }

    def timings(self) -> dict[str, list[list[float | None]]]:
        """Return the times of each probe of each target, in the order of the configuration, as `Timing.row` has them."""
        return {
            key: [subscription.timing.row() for subscription in backend.subscriptions]
            for key, backend in self._backends.items()
        }

    def states(self) -> dict[str, tuple[State, str]]:
        """Return each target's verdict and its reason."""
        return {key: (backend.state, backend.reason) for key, backend in self._backends.items()}

    async def close(self) -> None:
        """Stop all probes; no task, timer or descriptor of a probe is left."""
        self._closed = True
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()
        self._backends.clear()

    def _backend(
        self, target: Target, probes: "_Questions", before: Backend | None, joined: list[Subscription]
    ) -> Backend:
        """Return `target` with its subscriptions: it keeps those of `before`, and new ones are appended to `joined`."""
        same = before is not None and (before.target.address, before.target.port) == (target.address, target.port)
        state: State = before.state if before and same else "unknown" if before else target.state
        kept = before.subscriptions if before and same else []
        backend = Backend(target, self._services)
        for question, spec in probes:
            runner = self._runners[question]
            subscription = next((one for one in kept if one.question == question), None)
            if subscription:
                kept.remove(subscription)
                subscription.move(backend, spec)
            else:
                subscription = Subscription(backend, spec, runner, question, state)
                joined.append(subscription)
            backend.subscriptions.append(subscription)
            runner.subscribers.append(subscription)
        if before:
            backend.state, backend.reason, backend.weight = before.state, before.reason, before.weight
            backend.unjudged = before.unjudged
        if before and same and before.target.weight_from == target.weight_from:
            backend.smoothed = before.smoothed
        return backend

    def _settle(self, backend: Backend) -> None:
        """Combine the verdicts of a backend's probes into the backend's verdict, and report a change."""
        if self._backends.get(backend.target.key) is not backend:
            return
        opinions = [subscription.opinion for subscription in backend.subscriptions]
        previous, before = backend.state, (backend.state, backend.weight, backend.unjudged)
        backend.state, backend.reason = judge(opinions, backend.target.require)
        hindrance = unjudged(opinions, backend.target.require)
        backend.unjudged = hindrance != ""
        backend.reason = hindrance or backend.reason
        asking = [one for one in backend.subscriptions if one.asks_weight]
        if all(one.runner.last for one in asking):
            backend.weight = min((one.weight for one in asking if one.weight is not None), default=None)
        if (backend.state, backend.weight, backend.unjudged) == before:
            return
        reason = backend.reason
        if backend.state == previous != "unknown":
            reason = "; ".join(one.runner.last.reason for one in asking if one.runner.last) or "weight as configured"
        verdict = Verdict(
            backend.target.key, backend.state, reason, time.time(), previous, backend.weight, backend.unjudged
        )
        try:
            self._on_verdict(verdict)
        except Exception:  # the probes go on even if the callback fails
            _log.exception("the verdict %s of %s could not be reported", verdict.state, verdict.key)


_Questions = list[tuple[str, ProbeSpec]]


def _addressed(target: Target) -> _Questions:
    """Return the target's probes with their addresses and ports filled in, each with its complete question."""
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
    """Return how many probes may be open at once under the limit of open files."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, limit - SPARE_FILES) if limit != resource.RLIM_INFINITY else 1 << 20
