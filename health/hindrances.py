"""Which probes of a service cannot judge their backends through our own fault, for one alarm a service.  Pure.

A run that this host could not make, or that met a limit set for us alone, says nothing of the backend: its verdict stays.
The alarm is raised with the first such run, and is over when each probe that was hindered has judged its backend `rise`
times in a row, so that a limit that is met now and then raises one alarm.
"""

from collections.abc import Collection, Hashable


class Hindrances:
    """The members are probes of backends, by any key."""

    __slots__ = ("_members",)

    def __init__(self) -> None:
        self._members: dict[Hashable, int] = {}  # the hindered ones: how often each has judged its backend since

    @property
    def alarm(self) -> bool:
        """Whether a member is hindered."""
        return bool(self._members)

    def keep(self, members: Collection[Hashable]) -> None:
        """Forget all but these members."""
        self._members = {member: count for member, count in self._members.items() if member in members}

    def hindered(self, member: Hashable) -> None:
        """Note that a member could not judge its backend."""
        self._members[member] = 0

    def judged(self, member: Hashable, rise: int) -> None:
        """Note that a member has judged its backend: it is hindered no more after `rise` times in a row."""
        if member not in self._members:
            return
        self._members[member] += 1
        if self._members[member] >= rise:
            del self._members[member]
