"""Tracks the probes of a service that cannot judge their backends through our own fault: one alarm a service.  Pure.

If this host could not make a run, or the run met a limit set for us alone, it says nothing about the backend: the verdict
stays.  The first such run raises the alarm.  The alarm ends when each hindered probe has judged its backend `rise` times
in a row, so that a limit that is met now and then raises only one alarm.
"""

from collections.abc import Collection, Hashable


class Hindrances:
    """The hindered probes of one service; a member is a probe of a backend, by any key."""

    __slots__ = ("_members",)

    def __init__(self) -> None:
        self._members: dict[Hashable, int] = {}  # hindered probe -> how often it has judged its backend since

    @property
    def alarm(self) -> bool:
        """True if any probe is hindered."""
        return bool(self._members)

    def keep(self, members: Collection[Hashable]) -> None:
        """Forget all but these members."""
        self._members = {member: count for member, count in self._members.items() if member in members}

    def hindered(self, member: Hashable) -> None:
        """Note that a member could not judge its backend."""
        self._members[member] = 0

    def judged(self, member: Hashable, rise: int) -> None:
        """Note that a member has judged its backend; after `rise` times in a row it is no longer hindered."""
        if member not in self._members:
            return
        self._members[member] += 1
        if self._members[member] >= rise:
            del self._members[member]
