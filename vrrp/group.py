"""Routers that move together (V12): IPv4 and IPv6 under one name, and sync groups.

The laws:

1.  All advertise the lowest effective priority among them.
2.  A router whose timer fires only wants to take over; all do when all want.  So a host that hears nobody on one
    segment, and a healthy peer on another, leaves the addresses where they are.
3.  One that is no longer active takes the others with it, and one in fault the others into fault.
"""

from collections.abc import Sequence

from vrrp.events import (
    Command,
    Event,
    Fault,
    FaultCleared,
    GroupPriority,
    GroupTakeOver,
    GroupYield,
    RouterConfig,
)
from vrrp.router import Router

_ROUNDS = 8  # the consequences of consequences end far before


class Group:
    """One or more routers that are active on the same host.  A router alone is a group of one.

    Drive routers through their group only.
    """

    __slots__ = ("_caused", "routers")

    def __init__(self, configs: Sequence[RouterConfig], now: float) -> None:
        """Make a router of each configuration, in the same order on every host: the first one decides ties."""
        grouped = len(configs) > 1
        self.routers = tuple(
            Router(config, now, grouped=grouped, leader=number == 0) for number, config in enumerate(configs)
        )
        self._caused: dict[Router, str] = {}
        """The fault that each router was put into for the sake of another."""

    def handle(self, router: Router, event: Event, now: float) -> tuple[tuple[Router, Command], ...]:
        """Hand an event to one router; what follows for it and for the others, in order."""
        return self._settled([(router, command) for command in router.handle(event, now)], now)

    def handle_all(self, event: Event, now: float) -> tuple[tuple[Router, Command], ...]:
        """Hand an event to every router (Startup, Shutdown, Standby, Resume, MasterLost, MasterBack, Tick ...)."""
        done = [(router, command) for router in self.routers for command in router.handle(event, now)]
        return self._settled(done, now)

    @property
    def deadline(self) -> float | None:
        """The earliest of the routers' deadlines; send the `Tick` with `handle_all`."""
        return min((router.deadline for router in self.routers if router.deadline is not None), default=None)

    def follows(self, router: Router) -> bool:
        """Return True if a router is in fault only because another one is."""
        return router.faults == (self._caused.get(router),)

    def _settled(self, done: list[tuple[Router, Command]], now: float) -> tuple[tuple[Router, Command], ...]:
        if len(self.routers) > 1:
            for _ in range(_ROUNDS):
                consequences = self._consequences()
                if not consequences:
                    break
                done += [(router, command) for router, event in consequences for command in router.handle(event, now)]
        return tuple(done)

    def _consequences(self) -> list[tuple[Router, Event]]:
        """Return what one router's state means to the others, the first law that asks for something first."""
        return self._priorities() or self._faults() or self._moves()

    def _priorities(self) -> list[tuple[Router, Event]]:
        lowest = min(router.own_priority for router in self.routers)
        return [(router, GroupPriority(lowest)) for router in self.routers if router.effective_priority != lowest]

    def _faults(self) -> list[tuple[Router, Event]]:
        own = {router: [one for one in router.faults if one != self._caused.get(router)] for router in self.routers}
        ill = [router for router in self.routers if own[router]]
        events: list[tuple[Router, Event]] = []
        for router in self.routers:
            first = next((one for one in ill if one is not router), None)
            cause = "" if first is None else f"{_called(first)}, which it moves with: {'; '.join(own[first])}"
            before = self._caused.get(router, "")
            if cause != before:
                self._caused[router] = cause
                events += [(router, Fault(cause))] if cause else []
                events += [(router, FaultCleared(before))] if before else []
        return events

    def _moves(self) -> list[tuple[Router, Event]]:
        active = [router for router in self.routers if router.state == "active"]
        others = [router for router in self.routers if router.state != "active"]
        if active and others:
            why = f"it moves with {_called(others[0])}: {others[0].reason}"
            return [(router, GroupYield(why)) for router in active]
        if all(router.wants for router in self.routers):
            return [(router, GroupTakeOver()) for router in self.routers]
        return []


def _called(router: Router) -> str:
    return f"IPv{router.config.family} of {router.config.name}"
