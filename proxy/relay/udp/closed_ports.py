"""Which backends have refused a datagram just now: they are left out for a moment, as long as another one is there.

A host tells of a closed port about once a second (icmp_ratelimit, icmp(7)): what else is sent there is lost in silence.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.relay.target import Target

PAUSE = 1.0  # s


class ClosedPorts:
    """The backends, and until when; false if there are none."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[Target, float] = {}

    def __bool__(self) -> bool:
        return bool(self._until)

    def note(self, target: "Target", now: float) -> None:
        """Leave a backend out from now on (monotonic seconds)."""
        self._until[target] = now + PAUSE

    def forget(self, target: "Target") -> None:
        """Leave it out no longer."""
        self._until.pop(target, None)

    def targets(self, now: float) -> "tuple[Target, ...]":
        """Return who is left out now."""
        for target in [one for one, until in self._until.items() if until <= now]:
            del self._until[target]
        return tuple(self._until)
