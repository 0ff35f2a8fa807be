"""One backend as the monitor sees it: its target, and the counts of its probes' results.

Several backends may share the runner of a probe (H11).  The results are counted here, for this backend alone.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

from health.compare import Lag, Peer, subject
from health.logins import account
from health.measure import Measured, Smoothed, WeightFrom, measure, measures
from health.runner import Runner
from health.schedule import Pace
from health.spec import ProbeBase, ProbeSpec, ScriptProbe
from health.state import Health, Opinion, Outcome, Phase, Require, State
from health.timing import Timing

NOT_YET = "not probed yet"


@dataclass(frozen=True, slots=True)
class Target:
    """One backend of one service; this package does not interpret `key` ("service/backend").

    The key and the address identify the target: if the address changes, the target is a new backend without a verdict.
    `state` and `weight` come from an earlier monitor.  A new target starts from that verdict and does not report it again.
    """

    key: str
    address: str
    port: int
    probes: tuple[ProbeSpec, ...]
    require: Require = "all"
    state: State = "unknown"
    weight: int | None = None
    service: str = ""
    """The service that the backend belongs to.  The backends of one service are compared; "" excludes the backend."""
    name: str = ""
    """The backend's name in reasons."""
    weight_from: WeightFrom = "off"
    """What is measured for the backend's weight, by the first of its probes that can."""


def label(spec: ProbeBase) -> str:
    """Return the label that distinguishes a probe from the other probes of its backend: "tcp 636"."""
    return f"{spec.type} {spec.port}" if spec.port else spec.type


class Others(Protocol):
    """Shares results between the backends of one service."""

    def peers(self, backend: "Backend", subject: str) -> list[Peer]:
        """Return the last values of the other backends that are in service."""

    def found(self, backend: "Backend", subject: str, value: float) -> None:
        """Note the value of a backend, NaN if the backend has failed."""

    def counts(self, backend: "Backend", account: str, outcome: Outcome, now: float) -> bool:
        """Returns True if a login's outcome counts for the verdict."""

    def refuses(self, backend: "Backend", account: str) -> bool:
        """Returns True if every backend of the service refuses the login of `account`."""

    def hindered(self, subscription: "Subscription") -> None:
        """Note that a probe could not judge its backend through our own fault."""

    def judged(self, subscription: "Subscription") -> None:
        """Note that a probe could judge its backend."""

    def measured(self, backend: "Backend", found: Measured) -> None:
        """Tell a backend's smoothed measure."""

    def settle(self, backend: "Backend") -> None:
        """Combine anew the verdicts of a backend's probes."""


class Backend:
    """A target, the subscriptions of its probes, and the verdict that was reported last."""

    __slots__ = ("circle", "others", "reason", "smoothed", "state", "subscriptions", "target", "unjudged", "weight")

    def __init__(self, target: Target, others: Others) -> None:
        self.target = target
        self.others = others
        self.circle = target.service or f"only {target.key}"
        self.subscriptions: list[Subscription] = []
        self.state: State = target.state
        self.weight = target.weight
        self.reason = NOT_YET
        self.unjudged = False  # unknown through our own fault alone
        self.smoothed = Smoothed()

    def measure(self, subscription: "Subscription", outcome: Outcome) -> None:
        """Smooth what a passed run has measured, and tell a change that is worth it."""
        kind = self.target.weight_from
        first = next((one for one in self.subscriptions if measures(one.spec, kind)), None)
        found = measure(subscription.spec, kind, outcome) if subscription is first else None
        told = self.smoothed.observe(found) if found is not None else None
        if told is not None:
            self.others.measured(self, told)


class Subscription:
    """One probe of one backend: counts the results of the shared runner, starting from `state`."""

    __slots__ = (
        "account", "backend", "behind", "fault", "health", "lag", "pace", "question", "reason", "refusal", "runner", "spec",
        "subject", "timing", "weight",
    )  # fmt: skip

    def __init__(self, backend: Backend, spec: ProbeSpec, runner: Runner, question: str, state: State) -> None:
        self.runner = runner
        self.question = question
        self.health = Health(spec.fall, spec.rise, state)
        self.reason = NOT_YET if state == "unknown" else f"{NOT_YET}, assumed {state}"
        self.account = account(spec)
        self.subject = subject(spec)
        self.lag = Lag(spec) if self.subject else None
        self.behind = ""  # text: how far the last result was behind the other backends
        self.fault = ""  # text: the fault on our side that kept the last run from a result
        self.refusal = ""  # text: how the server refused the last login, if that counts for no verdict
        self.weight: int | None = None
        self.timing = Timing()
        self.move(backend, spec)

    def move(self, backend: Backend, spec: ProbeSpec) -> None:
        """Adopt a new configuration of the same question: a new pace and new limits, but the same verdict."""
        self.backend = backend
        self.spec = spec
        self.pace = Pace(spec.interval, spec.fast_interval, spec.down_interval)
        self.health.fall, self.health.rise = spec.fall, spec.rise
        if self.lag:
            self.lag.follow(spec)

    @property
    def phase(self) -> Phase:
        """The phase that decides which interval applies."""
        return self.health.phase

    @property
    def opinion(self) -> Opinion:
        """The probe's contribution to the backend's verdict."""
        return Opinion(label(self.spec), self.health.state, self.reason, self.spec.report_only, self._hindrance)

    @property
    def _hindrance(self) -> str:
        if self.refusal and self.account is not None and self.backend.others.refuses(self.backend, self.account):
            return self.refusal
        return self.fault

    @property
    def asks_weight(self) -> bool:
        """True if the results of this probe set the backend's weight."""
        return isinstance(self.spec, ScriptProbe) and self.spec.dynamic_weight and not self.spec.report_only

    def report(self) -> dict[str, Any]:
        """Return the last result, as a failure if this backend is too far behind its service."""
        found = self.runner.report()
        return {**found, "ok": False, "reason": self.behind} if self.behind and found["ok"] else found

    def count(self, outcome: Outcome, now: float) -> bool:
        """Count an outcome; return True if the probe's contribution to the verdict may have changed."""
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
            if self.backend.target.weight_from != "off" and not outcome.full:
                self.backend.measure(self, outcome)
        change = self.health.observe(outcome, now)
        if change:
            self.reason = change.reason
        if self.subject is not None:
            value = outcome.value if self.health.state in {"up", "reserve"} else math.nan
            if value is not None:
                self.backend.others.found(self.backend, self.subject, value)
        return change is not None or self.weight != weight or hindered != ""

    def _compared(self, lag: Lag, outcome: Outcome, now: float) -> Outcome:
        """Return the outcome, as a failure if its value is too far behind those of the other backends."""
        self.behind = ""
        if not outcome.ok or outcome.value is None or self.subject is None or not lag.limited:
            return outcome
        others = self.backend.others.peers(self.backend, self.subject)
        self.behind = lag.observe(outcome.value, others, now, first=self.health.state == "unknown")
        return outcome._replace(ok=False, reason=self.behind) if self.behind else outcome

    def heard(self, outcome: Outcome, now: float) -> None:
        """Count an outcome, and settle the backend's verdict if it may have changed."""
        self.timing.add(outcome)
        if self.count(outcome, now):
            self.backend.others.settle(self.backend)

    def hindered(self, fault: str) -> None:
        """Note that a fault on our side kept a run from a result: the verdict stays."""
        self.fault, self.refusal = fault, ""
        self.backend.others.hindered(self)
        self.backend.others.settle(self.backend)
