"""How able a host is to be active: the effective priority with its parts, and the faults (V11)."""

from typing import Final

OWNER: Final = 255
"""The priority of a router that owns the addresses, whatever it tracks (RFC 9568 section 5.2.4)."""
LEAVING: Final = 0
"""The priority that an active router sends when it leaves."""
LAST_RESORT: Final = 1
"""The priority of a host whose master or workers are dead: below every host that works (V18)."""
LOWEST: Final = 1
HIGHEST: Final = 254

Part = tuple[str, int]


class Fitness:
    """The priority and the faults of one router."""

    __slots__ = ("configured", "faults", "group", "last_resort", "parts")

    def __init__(self, configured: int) -> None:
        """Begin with the configured priority and no fault."""
        self.configured = configured
        self.parts: tuple[Part, ...] = ()
        """The amounts that are added, by name; penalties are negative."""
        self.last_resort = False
        self.group: int | None = None
        """The lowest priority among the routers of the group."""
        self.faults: dict[str, None] = {}
        """The causes, oldest first."""

    @property
    def own(self) -> int:
        """The effective priority without the group."""
        return sum(amount for _, amount in self._own_steps())

    @property
    def effective(self) -> int:
        """The priority that is advertised: configured plus parts, clamped to 1-254; at most the group's."""
        own = self.own
        return own if self.group is None else min(own, self.group)

    @property
    def explained(self) -> tuple[Part, ...]:
        """Named amounts that add up to the effective priority, for status."""
        difference = self.effective - self.own
        return (*self._own_steps(), *([("group", difference)] if difference else []))

    @property
    def fault_reason(self) -> str:
        """All causes, in words."""
        return "; ".join(self.faults)

    def _own_steps(self) -> tuple[Part, ...]:
        steps = [("configured", self.configured)]
        if self.configured != OWNER:
            steps += [part for part in self.parts if part[1]]
            reached = sum(amount for _, amount in steps)
            steps.append(("clamp", min(max(reached, LOWEST), HIGHEST) - reached))
        if self.last_resort:
            steps.append(("last resort", LAST_RESORT - sum(amount for _, amount in steps)))
        return (steps[0], *(step for step in steps[1:] if step[1]))
