"""The backends that have just refused a datagram: they are left out for a moment if another one is usable.

A host reports a closed port about once a second (icmp_ratelimit, icmp(7)); other datagrams to it are lost silently.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.relay.target import Target

CLOSED_PAUSE = 1.0  # s


class ClosedPorts:
    """The backends that are left out; false if there are none."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[Target, float] = {}

    def __bool__(self) -> bool:
        return bool(self._until)

    def note(self, target: "Target", now: float) -> None:
        """Leave a backend out from now on (monotonic seconds)."""
        self._until[target] = now + CLOSED_PAUSE

    def forget(self, target: "Target") -> None:
        """Stop leaving a backend out."""
        self._until.pop(target, None)

    def targets(self, now: float) -> "tuple[Target, ...]":
        """Return the backends that are left out now."""
        for target in [one for one, until in self._until.items() if until <= now]:
            del self._until[target]
        return tuple(self._until)
