"""Keeps the verdicts of backends, and reports their changes.

A backend has one or more probes; each of their questions is asked by a runner, which it shares with every backend of
every service that asks the same (H11).  Each subscriber counts for itself, with its own `fall` and `rise`, and the
backend's verdict combines those of its probes (H15).  Slow probes delay no other: what is bounded is the number of open
probes, by the descriptors that this process may have (H5).

The backends of one service know of each other (`health.services`).  A backend that has no verdict through our own fault
alone, as a login that all of them refuse, is reported as `unjudged`.
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
    """A backend's verdict that changed, `at` in seconds of the wall clock, with the reason in words (H13).

    `weight` is the one that the backend asks for, None for the configured one; where only it changed, `previous` is `state`.
    `unjudged` says of an unknown backend that our own fault alone keeps it from a verdict, as a login that all refuse.
    """

    key: str
    state: State
    reason: str
    at: float
    previous: State
    weight: int | None = None
    unjudged: bool = False


class Monitor:
    """Watches targets until closed.  Lives in one asyncio loop; `on_verdict` is called in it, for each change.

    A new target is `unknown` without a call.  `on_verdict` may be called before `watch` returns, where a shared probe
    already knows.  `max_open` bounds the probes that run at the same time, by default what the limit of open files
    leaves; further ones wait for a free place, which counts against nobody.  `on_alarm` is called as `on_verdict` is,
    by default to log.  `secrets` has the passwords (None: they are read from their files), `echoes` carries pings where
    this process may not send any itself.
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
    ) -> None:
        self._on_verdict = on_verdict
        self._secrets = secrets
        self._echoes = echoes
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self._waits = Waits()
        self._places = Places(max_open or _affordable())
        self._runners: dict[str, Runner] = {}
        self._backends: dict[str, Backend] = {}
        self._services = Services(self._settle, self.hint, on_alarm or log_alarm)
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
        for subscription in joined:  # what is known already counts once those who are compared know of each other
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
        """Probe `key` soon, because traffic to it failed; at most once a fast interval (H12).  Unknown keys: no-op."""
        backend = self._backends.get(key)
        for subscription in backend.subscriptions if backend else ():
            subscription.runner.hint()

    def secrets_changed(self, paths: Collection[str]) -> None:
        """Probe soon whoever needs a file of `paths`: a password, or authorities."""
        for backend in self._backends.values():
            for subscription in backend.subscriptions:
                if any(getattr(subscription.spec, key, None) in paths for key in KINDS):
                    subscription.runner.hint()

    async def run_now(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """Run each probe of the targets `keys` once, beside the regular ones, and return what each found.

        [{key, type, address, port, report_only, ok, reserve, standby, reason, latency_ms, transcript}]; a question that
        several of them ask is asked once.  Values are compared with those of the service's other backends, as this run or
        an earlier one found them.  Nothing of it counts for a verdict.  What this host could not run is no pass either.
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
        """Return in words how far what a run by hand found is behind the other backends, "" if it is not."""
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
        """Return what each probe of each target found last, in the order of the configuration.

        key -> [{type, ok, standby, reason, latency_ms, at}]; `ok`, `latency_ms` and `at` (wall clock, seconds) are None before
        the first result.  A probe that this host could not run keeps its last result, with a reason that says so; without
        one it is not ok.
        """
        return {
            key: [subscription.report() for subscription in backend.subscriptions]
            for key, backend in self._backends.items()
        }

    def states(self) -> dict[str, tuple[State, str]]:
        """Return each target's verdict and its reason."""
        return {key: (backend.state, backend.reason) for key, backend in self._backends.items()}

    async def close(self) -> None:
        """Stop; afterwards no task, timer or descriptor of a probe is left."""
        self._closed = True
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()
        self._backends.clear()

    def _backend(
        self, target: Target, probes: "_Questions", before: Backend | None, joined: list[Subscription]
    ) -> Backend:
        """Return `target` with its subscriptions, those of the backend that it was `before` kept, new ones in `joined`."""
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
        return backend

    def _settle(self, backend: Backend) -> None:
        """Combine the verdicts of a backend's probes into its own, and report it when it changed."""
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
        except Exception:  # the probes go on whatever the listener does
            _log.exception("the verdict %s of %s could not be reported", verdict.state, verdict.key)


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
