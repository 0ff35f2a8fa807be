"""What keeps this host from running probes, as alarms: one a service and cause, however many probes it befalls.  Pure.

A backend whose probe cannot run keeps its verdict, so nothing else would tell that nobody looks at it any more.  An alarm
is raised when a probe has been kept from two runs in a row, for one moment without descriptors is no news, and is over
when the last probe with that cause runs again, or is gone.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """An alarm that is raised (`active`) or over."""

    service: str
    text: str
    active: bool


@dataclass(frozen=True, slots=True)
class _Cause:
    service: str
    kind: str
    why: str

    def change(self, *, active: bool) -> Change:
        if active:
            return Change(
                self.service, f"the {self.kind} probe cannot run ({self.why}): the verdicts stay as they are", active
            )
        return Change(self.service, f"the {self.kind} probe is no longer kept from running ({self.why})", active)


class Hindrances:
    """The probes are named by any keys."""

    def __init__(self) -> None:
        self._once: dict[str, _Cause] = {}  # kept from their last run
        self._twice: dict[str, _Cause] = {}  # and from the one before
        self._counts: Counter[_Cause] = Counter()  # of those kept twice

    def note(self, probe: str, service: str, kind: str, why: str) -> list[Change]:
        """Take in that a probe of `kind` was kept from a run, `why` in words, "" if it was not; the alarms that change."""
        cause = _Cause(service, kind, why) if why else None
        before, last = self._twice.pop(probe, None), self._once.pop(probe, None)
        if cause is not None:
            self._once[probe] = cause
            if cause == last:
                self._twice[probe] = cause
        now = self._twice.get(probe)
        return [] if now == before else list(self._changes(before, now))

    def keep(self, probes: set[str]) -> list[Change]:
        """Forget all probes but these; the alarms that change."""
        changes: list[Change] = []
        for probe in [one for one in self._once if one not in probes]:
            changes += self.note(probe, "", "", "")
        return changes

    def _changes(self, before: _Cause | None, now: _Cause | None) -> Iterator[Change]:
        if before is not None:
            self._counts[before] -= 1
            if not self._counts[before]:
                del self._counts[before]
                yield before.change(active=False)
        if now is not None:
            self._counts[now] += 1
            if self._counts[now] == 1:
                yield now.change(active=True)
