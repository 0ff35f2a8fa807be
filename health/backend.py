"""One backend as the monitor sees it: its target, and the counting of what each of its probes finds.

The runner of a probe may be shared with other backends (H11); what it finds is counted here, for this backend alone.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

from health.compare import Lag, Peer, subject
from health.logins import account
from health.runner import Runner
from health.schedule import Pace
from health.spec import ProbeBase, ProbeSpec, ScriptProbe
from health.state import Health, Opinion, Outcome, Phase, Require, State

NOT_YET = "not probed yet"


@dataclass(frozen=True, slots=True)
class Target:
    """One backend of one service; `key` is opaque here ("service/backend").

    The key and the address are its identity: a target whose address changes is a new backend without a verdict.
    `state` and `weight` are what an earlier monitor knew of it: a new target starts from that verdict, which is not
    reported again.
    """

    key: str
    address: str
    port: int
    probes: tuple[ProbeSpec, ...]
    require: Require = "all"
    state: State = "unknown"
    weight: int | None = None
    service: str = ""
    """Whose backend it is: those of one service are compared with each other; "" is compared with nobody."""
    name: str = ""
    """What reasons call it."""


def label(spec: ProbeBase) -> str:
    """Return what tells a probe from the others of its backend: "tcp 636"."""
    return f"{spec.type} {spec.port}" if spec.port else spec.type


class Others(Protocol):
    """What a backend asks about the others of its service, and tells of itself."""

    def peers(self, backend: "Backend", subject: str) -> list[Peer]:
        """Return what the other backends that are in service were last found to have."""

    def found(self, backend: "Backend", subject: str, value: float) -> None:
        """Note what a backend has, NaN for one that has failed."""

    def counts(self, backend: "Backend", account: str, outcome: Outcome, now: float) -> bool:
        """Whether a login's outcome counts for the verdict."""

    def refuses(self, backend: "Backend", account: str) -> bool:
        """Returns True if every backend of the service refuses the login of `account`."""

    def hindered(self, subscription: "Subscription") -> None:
        """Note that a probe could not judge its backend through our own fault."""

    def judged(self, subscription: "Subscription") -> None:
        """Note that a probe could judge its backend."""

    def settle(self, backend: "Backend") -> None:
        """Combine anew the verdicts of a backend's probes."""


class Backend:
    """A target, its probes' subscriptions and the verdict that was told."""

    __slots__ = ("circle", "others", "reason", "state", "subscriptions", "target", "unjudged", "weight")

    def __init__(self, target: Target, others: Others) -> None:
        self.target = target
        self.others = others
        self.circle = target.service or f"only {target.key}"
        self.subscriptions: list[Subscription] = []
        self.state: State = target.state
        self.weight = target.weight
        self.reason = NOT_YET
        self.unjudged = False  # unknown through our own fault alone


class Subscription:
    """One probe of one backend: its own counting of what the shared runner finds, from `state` on."""

    __slots__ = (
        "account", "backend", "behind", "fault", "health", "lag", "pace", "question", "reason", "refusal", "runner", "spec",
        "subject", "weight",
    )  # fmt: skip

    def __init__(self, backend: Backend, spec: ProbeSpec, runner: Runner, question: str, state: State) -> None:
        self.runner = runner
        self.question = question
        self.health = Health(spec.fall, spec.rise, state)
        self.reason = NOT_YET if state == "unknown" else f"{NOT_YET}, assumed {state}"
        self.account = account(spec)
        self.subject = subject(spec)
        self.lag = Lag(spec) if self.subject else None
        self.behind = ""  # in words how far the last result was behind the other backends
        self.fault = ""  # in words what on our side kept the last run from finding anything
        self.refusal = ""  # in words how the last run's login was refused, where that counts for no verdict
        self.weight: int | None = None
        self.move(backend, spec)

    def move(self, backend: Backend, spec: ProbeSpec) -> None:
        """Belong to a new configuration of the same question: another pace, other limits, the same verdict."""
        self.backend = backend
        self.spec = spec
        self.pace = Pace(spec.interval, spec.fast_interval, spec.down_interval)
        self.health.fall, self.health.rise = spec.fall, spec.rise
        if self.lag:
            self.lag.follow(spec)

    @property
    def phase(self) -> Phase:
        """Which interval applies."""
        return self.health.phase

    @property
    def opinion(self) -> Opinion:
        """What this probe contributes to the backend's verdict."""
        return Opinion(label(self.spec), self.health.state, self.reason, self.spec.report_only, self._hindrance)

    @property
    def _hindrance(self) -> str:
        if self.refusal and self.account is not None and self.backend.others.refuses(self.backend, self.account):
            return self.refusal
        return self.fault

    @property
    def asks_weight(self) -> bool:
        """Whether what this probe finds sets the backend's weight."""
        return isinstance(self.spec, ScriptProbe) and self.spec.dynamic_weight and not self.spec.report_only

    def report(self) -> dict[str, Any]:
        """Return the last result as this backend's service judges it."""
        found = self.runner.report()
        return {**found, "ok": False, "reason": self.behind} if self.behind and found["ok"] else found

    def count(self, outcome: Outcome, now: float) -> bool:
        """Count an outcome; whether that may have changed what the probe says of its backend."""
        weight, hindered = self.weight, self.fault or self.refusal
        self.fault = self.refusal = ""
        self.backend.others.judged(self)
        if self.account is not None and not self.backend.others.counts(self.backend, self.account, outcome, now):
            self.refusal = outcome.reason
            return True
        if self.lag is not None:
            outcome = self._compared(self.lag, outcome, now)
        if outcome.ok:
            self.weight = outcome.weight
        change = self.health.observe(outcome, now)
        if change:
            self.reason = change.reason
        if self.subject is not None:
            value = outcome.value if self.health.state in {"up", "reserve"} else math.nan
            if value is not None:
                self.backend.others.found(self.backend, self.subject, value)
        return change is not None or self.weight != weight or hindered != ""

    def _compared(self, lag: Lag, outcome: Outcome, now: float) -> Outcome:
        """Return the outcome as it is beside those of the other backends."""
        self.behind = ""
        if not outcome.ok or outcome.value is None or self.subject is None or not lag.limited:
            return outcome
        others = self.backend.others.peers(self.backend, self.subject)
        self.behind = lag.observe(outcome.value, others, now, first=self.health.state == "unknown")
        return outcome._replace(ok=False, reason=self.behind) if self.behind else outcome

    def heard(self, outcome: Outcome, now: float) -> None:
        """Count an outcome, and settle the backend's verdict if it may have changed."""
        if self.count(outcome, now):
            self.backend.others.settle(self.backend)

    def hindered(self, fault: str) -> None:
        """Note that a run found nothing through our own fault: the verdict stays."""
        self.fault, self.refusal = fault, ""
        self.backend.others.hindered(self)
        self.backend.others.settle(self.backend)
