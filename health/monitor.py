"""Keeps the verdicts of backends, and reports their changes.

A backend has one or more probes; each of their questions is asked by a runner, which it shares with every backend of
every service that asks the same (H11).  Each subscriber counts for itself, with its own `fall` and `rise`, and the
backend's verdict combines those of its probes (H15).  Slow probes delay no other: what is bounded is the number of open
probes, by the descriptors that this process may have (H5).

The backends of one service know of each other: who serves older data than the others fails (`health.compare`), and a
login that all of them refuse changes nothing but raises an alarm (`health.logins`).
"""

import asyncio
import copy
import logging
import math
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
from health.logins import Logins
from health.probes import attempt_once, make, not_run, told
from health.probes.base import OurFault
from health.runner import Runner
from health.schedule import first_delay
from health.secrets import KINDS, Source
from health.spec import ProbeSpec
from health.state import Outcome, State, judge
from health.waiting import Places, Waits

_log = logging.getLogger("steelyard.health")

SPARE_FILES = 64  # descriptors that probes leave to the rest of the process


@dataclass(frozen=True, slots=True)
class Verdict:
    """A backend's verdict that changed, `at` in seconds of the wall clock, with the reason in words (H13).

    `weight` is the one that the backend asks for, None for the configured one; where only it changed, `previous` is `state`.
    """

    key: str
    state: State
    reason: str
    at: float
    previous: State
    weight: int | None = None


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that no verdict says, raised (`active`) or over, `at` in seconds of the wall clock."""

    service: str
    text: str
    active: bool
    at: float


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
        self._on_alarm = on_alarm or _log_alarm
        self._secrets = secrets
        self._echoes = echoes
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self._waits = Waits()
        self._places = Places(max_open or _affordable())
        self._runners: dict[str, Runner] = {}
        self._backends: dict[str, Backend] = {}
        self._logins: dict[_Shared, Logins] = {}
        self._values: dict[_Shared, dict[str, Peer]] = {}
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
        self._acquaint()
        now = asyncio.get_running_loop().time()
        for subscription in joined:  # what is known already counts once those who are compared know of each other
            if subscription.runner.last:
                subscription.count(subscription.runner.last, now)
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
            Peer(peer.name, fresh.get((key, what), peer.value)) for key, peer in self._in_service(backend, what).items()
        ]
        now = asyncio.get_running_loop().time()
        return copy.copy(subscription.lag).observe(outcome.value, peers, now, first=backend.state == "unknown")

    def report(self) -> dict[str, list[dict[str, Any]]]:
        """Return what each probe of each target found last, in the order of the configuration.

        key -> [{type, ok, standby, reason, latency_ms, at}]; `ok`, `latency_ms` and `at` (wall clock, seconds) are None before
        the first result.  A probe that this host could not run keeps its last result, with a reason that says so.
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
        backend = Backend(target, self)
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
        return backend

    def _acquaint(self) -> None:
        """Let the backends of each service know of each other."""
        logins: dict[_Shared, set[str]] = {}
        values: dict[_Shared, set[str]] = {}
        for backend in self._backends.values():
            for subscription in backend.subscriptions:
                for what, found in ((subscription.account, logins), (subscription.subject, values)):
                    if what is not None:
                        found.setdefault((backend.circle, what), set()).add(backend.target.key)
        self._logins = {shared: self._logins.get(shared) or Logins() for shared in logins}
        for shared, keys in logins.items():
            self._logins[shared].keep(keys)
        self._values = {
            shared: {key: peer for key, peer in self._values.get(shared, {}).items() if key in keys}
            for shared, keys in values.items()
        }

    def peers(self, backend: Backend, subject: str) -> list[Peer]:
        """Return what the other backends of its service that are in service were last found to have."""
        return list(self._in_service(backend, subject).values())

    def _in_service(self, backend: Backend, subject: str) -> dict[str, Peer]:
        return {
            key: peer
            for key, peer in self._values.get((backend.circle, subject), {}).items()
            if key != backend.target.key and (other := self._backends.get(key)) and other.state in {"up", "reserve"}
        }

    def found(self, backend: Backend, subject: str, value: float) -> None:
        """Note what a backend has, NaN for one that has failed."""
        values = self._values.get((backend.circle, subject))
        if values is None:  # a subscriber of a set that is being replaced
            return
        if math.isnan(value):
            values.pop(backend.target.key, None)
        else:
            values[backend.target.key] = Peer(backend.target.name or backend.target.address, value)

    def counts(self, backend: Backend, account: str, outcome: Outcome, now: float) -> bool:
        """Whether a login's outcome counts for the verdict; raises or ends the alarm of its service."""
        logins = self._logins.get((backend.circle, account))
        if logins is None:  # a subscriber of a set that is being replaced
            return True
        before = logins.alarm
        counted = logins.observe(backend.target.key, outcome, now)
        if logins.alarm != before:
            self._alarm(backend, account, outcome, active=logins.alarm)
        for key in logins.doubtful():
            self.hint(key)
        return counted

    def _alarm(self, backend: Backend, account: str, outcome: Outcome, *, active: bool) -> None:
        kind, user, _ = account.split(" ", 2)
        label = backend.target.name or backend.target.address
        text = (
            f"every backend refuses the {kind} login of {user}, {label} last ({outcome.reason}): the verdicts stay as they are"
            if active
            else f"the {kind} login of {user} succeeds again on {label}"
        )
        try:
            self._on_alarm(Alarm(backend.target.service or backend.target.key, text, active, time.time()))
        except Exception:  # as for verdicts
            _log.exception("an alarm could not be reported: %s", text)

    def settle(self, backend: Backend) -> None:
        """Combine anew the verdicts of a backend's probes."""
        self._settle(backend)

    def _settle(self, backend: Backend) -> None:
        """Combine the verdicts of a backend's probes into its own, and report it when it changed."""
        if self._backends.get(backend.target.key) is not backend:
            return
        opinions = [subscription.opinion for subscription in backend.subscriptions]
        previous, weight = backend.state, backend.weight
        backend.state, backend.reason = judge(opinions, backend.target.require)
        asking = [one for one in backend.subscriptions if one.asks_weight]
        if all(one.runner.last for one in asking):
            backend.weight = min((one.weight for one in asking if one.weight is not None), default=None)
        if (backend.state, backend.weight) == (previous, weight):
            return
        reason = backend.reason
        if backend.state == previous:
            reason = "; ".join(one.runner.last.reason for one in asking if one.runner.last) or "weight as configured"
        verdict = Verdict(backend.target.key, backend.state, reason, time.time(), previous, backend.weight)
        try:
            self._on_verdict(verdict)
        except Exception:  # the probes go on whatever the listener does
            _log.exception("the verdict %s of %s could not be reported", verdict.state, verdict.key)


_Shared = tuple[str, str]  # a service, and what its backends have in common
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


def _log_alarm(alarm: Alarm) -> None:
    _log.log(logging.ERROR if alarm.active else logging.INFO, "%s: %s", alarm.service, alarm.text)
