"""Shares results between the backends of one service.

A backend that serves older data than the others fails (`health.compare`).  A login that all backends refuse changes no
verdict but raises an alarm (`health.logins`).  So does a probe that cannot judge its backend through a fault on our side
(`health.hindrances`).
"""

import logging
import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from health.backend import Backend, Subscription
from health.compare import Peer
from health.hindrances import Hindrances
from health.logins import Logins
from health.state import Outcome

_log = logging.getLogger("steelyard.health")


@dataclass(frozen=True, slots=True)
class Alarm:
    """A fault that shows in no verdict, raised (`active`) or over, `at` in seconds of the wall clock.

    `about` is the same when it is raised and when it is over.
    """

    service: str
    text: str
    active: bool
    at: float
    about: str = ""


class Services:
    """All services of a monitor: the `Others` of each backend.

    `settle(backend)` combines the verdicts of a backend's probes again, and `hint(key)` brings its probes forward.
    """

    def __init__(
        self,
        settle: Callable[[Backend], None],
        hint: Callable[[str], None],
        on_alarm: Callable[[Alarm], None],
    ) -> None:
        self.settle = settle
        self._hint = hint
        self._on_alarm = on_alarm
        self._backends: dict[str, Backend] = {}
        self._logins: dict[_Shared, Logins] = {}
        self._hindrances: dict[str, Hindrances] = {}  # only services that have any
        self._values: dict[_Shared, dict[str, Peer]] = {}

    def acquaint(self, backends: dict[str, Backend]) -> None:
        """Replace the set of backends, by their targets' keys; those that stay keep their state."""
        self._backends = backends
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
        probes: dict[str, set[Hashable]] = {}
        for backend in self._backends.values():
            probes.setdefault(backend.circle, set()).update(map(_member, backend.subscriptions))
        for circle, hindrances in list(self._hindrances.items()):
            hindrances.keep(probes.get(circle, ()))
            if not hindrances.alarm:
                del self._hindrances[circle]

    def peers(self, backend: Backend, subject: str) -> list[Peer]:
        """Return the last values of the service's other backends that are up or in reserve."""
        return list(self.in_service(backend, subject).values())

    def in_service(self, backend: Backend, subject: str) -> dict[str, Peer]:
        """Return the peers of `backend` by the targets' keys."""
        return {
            key: peer
            for key, peer in self._values.get((backend.circle, subject), {}).items()
            if key != backend.target.key and (other := self._backends.get(key)) and other.state in {"up", "reserve"}
        }

    def found(self, backend: Backend, subject: str, value: float) -> None:
        """Note the value of a backend, NaN if the backend has failed."""
        values = self._values.get((backend.circle, subject))
        if values is None:  # a subscriber of a set that is being replaced
            return
        if math.isnan(value):
            values.pop(backend.target.key, None)
        else:
            values[backend.target.key] = Peer(backend.target.name or backend.target.address, value)

    def counts(self, backend: Backend, account: str, outcome: Outcome, now: float) -> bool:
        """Returns True if a login's outcome counts for the verdict; raises or ends the alarm of its service."""
        logins = self._logins.get((backend.circle, account))
        if logins is None:  # a subscriber of a set that is being replaced
            return True
        before = logins.alarm
        counted = logins.observe(backend.target.key, outcome, now)
        if logins.alarm != before:
            self._login_alarm(backend, account, outcome.reason, active=logins.alarm)
        for key in logins.doubtful():
            self._hint(key)
        return counted

    def refuses(self, backend: Backend, account: str) -> bool:
        """Returns True if every backend of the service refuses the login of `account`."""
        logins = self._logins.get((backend.circle, account))
        return logins is not None and logins.alarm

    def hindered(self, subscription: Subscription) -> None:
        """Note that a probe could not judge its backend; raises the alarm of its service."""
        backend, account = subscription.backend, subscription.account
        if self._backends.get(backend.target.key) is not backend:  # a subscriber of a set that is being replaced
            return
        hindrances = self._hindrances.setdefault(backend.circle, Hindrances())
        raised = hindrances.alarm
        hindrances.hindered(_member(subscription))
        if not raised:
            fault = f"the {subscription.spec.type} probe cannot judge {_label(backend)}: {subscription.fault}"
            self._alarm(backend, f"{fault}: its verdict does not change", "probes", active=True)
        logins = self._logins.get((backend.circle, account)) if account is not None else None
        if logins is not None and account is not None:
            before = logins.alarm
            logins.hindered(backend.target.key)
            if logins.alarm != before:
                self._login_alarm(backend, account, subscription.fault, active=logins.alarm)

    def judged(self, subscription: Subscription) -> None:
        """Note that a probe could judge its backend; ends the alarm of its service."""
        backend = subscription.backend
        hindrances = self._hindrances.get(backend.circle)
        if hindrances is None:
            return
        hindrances.judged(_member(subscription), subscription.spec.rise)
        if not hindrances.alarm:
            del self._hindrances[backend.circle]
            text = (
                f"the probes can judge every backend again, the last was {_label(backend)} ({subscription.spec.type})"
            )
            self._alarm(backend, text, "probes", active=False)

    def _login_alarm(self, backend: Backend, account: str, reason: str, *, active: bool) -> None:
        kind, user, _ = account.split(" ", 2)
        label = _label(backend)
        text = (
            f"every backend refuses the {kind} login of {user} (the last was {label}: {reason}): no verdict changes"
            if active
            else f"the {kind} login of {user} succeeds again on {label}"
        )
        self._alarm(backend, text, f"login {account}", active=active)
        if active:  # the backends without a verdict now have a reason: the login
            for other in list(self._backends.values()):
                if other.circle == backend.circle and other is not backend:
                    self.settle(other)

    def _alarm(self, backend: Backend, text: str, about: str, *, active: bool) -> None:
        try:
            self._on_alarm(Alarm(backend.target.service or backend.target.key, text, active, time.time(), about))
        except Exception:  # as for verdicts
            _log.exception("an alarm could not be reported: %s", text)


_Shared = tuple[str, str]  # a service, and what its backends have in common


def log_alarm(alarm: Alarm) -> None:
    """Log an alarm, for a monitor without another handler."""
    _log.log(logging.ERROR if alarm.active else logging.INFO, "%s: %s", alarm.service, alarm.text)


def _label(backend: Backend) -> str:
    return backend.target.name or backend.target.address


def _member(subscription: Subscription) -> Hashable:
    return subscription.backend.target.key, subscription.question
