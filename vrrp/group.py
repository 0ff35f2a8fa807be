"""Routers that move together (V12): IPv4 and IPv6 under one name, and sync groups.

The laws:

1.  All advertise the lowest effective priority among them.
2.  A router whose timer fires only wants to take over; all do when all want.  So a host that hears nobody on one
    segment, and a healthy peer on another, leaves the addresses where they are.
3.  One that is no longer active takes the others with it, and one in fault the others into fault.
"""

import heapq
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from vrrp.deadlines import Deadlines
from vrrp.events import (
    Command,
    Event,
    Fault,
    FaultCleared,
    GroupPriority,
    GroupTakeOver,
    GroupYield,
    RouterConfig,
    Tick,
)
from vrrp.router import Router

_ROUNDS = 8  # the consequences of consequences end far before


class _View(NamedTuple):
    """What of a router matters to the others."""

    active: bool
    wants: bool
    own_priority: int
    effective_priority: int
    faults: tuple[str, ...]


class Group:
    """One or more routers that are active on the same host.  A router alone is a group of one.

    Drive routers through their group only.  What an event costs depends on what follows from it, not on the size of the group.
    """

    def __init__(self, configs: Sequence[RouterConfig], now: float) -> None:
        """Make a router of each configuration, in the same order on every host: the first one decides ties."""
        grouped = len(configs) > 1
        self.routers = tuple(
            Router(config, now, grouped=grouped, leader=number == 0) for number, config in enumerate(configs)
        )
        self._caused: dict[Router, str] = {}
        """The fault that each router was put into for the sake of another."""
        self._places = {router: place for place, router in enumerate(self.routers)}
        self._views: dict[Router, _View] = {}
        self._deadlines: Deadlines[Router] = Deadlines()
        # Of all views together
        self._own: Counter[int] = Counter()
        self._active: dict[Router, None] = {}
        self._wanting: set[Router] = set()
        self._ill: set[int] = set()
        self._lowest: int | None = None
        self._first_ill: list[tuple[int, tuple[str, ...]]] = []  # place, and its own faults
        if grouped:
            for router in self.routers:
                self._look(router)

    def handle(self, router: Router, event: Event, now: float) -> tuple[tuple[Router, Command], ...]:
        """Hand an event to one router; what follows for it and for the others, in order."""
        return self._settled([(router, event)], now)

    def handle_all(self, event: Event, now: float) -> tuple[tuple[Router, Command], ...]:
        """Hand an event to every router (Startup, Shutdown, Standby, Resume, MasterLost, MasterBack ...)."""
        return self._settled([(router, event) for router in self.routers], now)

    def tick(self, now: float) -> tuple[tuple[Router, Command], ...]:
        """Hand a `Tick` to every router whose deadline has come."""
        return self._settled([(router, Tick()) for router in self._deadlines.due(now)], now)

    @property
    def deadline(self) -> float | None:
        """The earliest of the routers' deadlines, for `tick`."""
        return self._deadlines.first

    def follows(self, router: Router) -> bool:
        """Return True if a router is in fault only because another one is."""
        return router.faults == (self._caused.get(router),)

    def _settled(self, events: Sequence[tuple[Router, Event]], now: float) -> tuple[tuple[Router, Command], ...]:
        """Hand out events, and what one router's state then means to the others."""
        done: list[tuple[Router, Command]] = []
        touched = {router for router, _ in events}
        try:
            for _ in range(_ROUNDS + 1):
                done += [(router, command) for router, event in events for command in router.handle(event, now)]
                if len(self.routers) == 1:
                    break
                changed = [router for router in dict.fromkeys(one for one, _ in events) if self._look(router)]
                events = self._consequences(changed)
                if not events:
                    break
                touched.update(router for router, _ in events)
        finally:
            for router in touched:
                self._deadlines.set(router, router.deadline)
        return tuple(done)

    def _look(self, router: Router) -> bool:
        """Take note of a router; whether anything has changed that matters to the others."""
        new = _View(
            router.state == "active", router.wants, router.own_priority, router.effective_priority, router.faults
        )
        old = self._views.get(router)
        self._views[router] = new
        ill = bool(self._own_faults(router))
        (self._ill.add if ill else self._ill.discard)(self._places[router])
        if new == old:
            return False
        if old is not None:
            self._own[old.own_priority] -= 1
            if not self._own[old.own_priority]:
                del self._own[old.own_priority]
        self._own[new.own_priority] += 1
        if new.active:
            self._active[router] = None
        else:
            self._active.pop(router, None)
        (self._wanting.add if new.wants else self._wanting.discard)(router)
        return True

    def _own_faults(self, router: Router) -> tuple[str, ...]:
        """Return the faults that a router has by itself."""
        return tuple(one for one in router.faults if one != self._caused.get(router))

    def _consequences(self, changed: Sequence[Router]) -> list[tuple[Router, Event]]:
        """Return what one router's state means to the others, the first law that asks for something first."""
        return self._priorities(changed) or self._faults() or self._moves()

    def _priorities(self, changed: Sequence[Router]) -> list[tuple[Router, Event]]:
        lowest = min(self._own)
        concerned = changed if lowest == self._lowest else self.routers
        self._lowest = lowest
        return [(router, GroupPriority(lowest)) for router in concerned if router.effective_priority != lowest]

    def _faults(self) -> list[tuple[Router, Event]]:
        first_ill = [(place, self._own_faults(self.routers[place])) for place in heapq.nsmallest(2, self._ill)]
        if first_ill == self._first_ill:
            return []
        self._first_ill = first_ill
        events: list[tuple[Router, Event]] = []
        for place, router in enumerate(self.routers):
            first = next((one for one in first_ill if one[0] != place), None)
            cause = ""
            if first is not None:
                cause = f"{_called(self.routers[first[0]])}, in the same group: {'; '.join(first[1])}"
            before = self._caused.get(router, "")
            if cause != before:
                self._caused[router] = cause
                events += [(router, Fault(cause))] if cause else []
                events += [(router, FaultCleared(before))] if before else []
        return events

    def _moves(self) -> list[tuple[Router, Event]]:
        if self._active and len(self._active) < len(self.routers):
            other = next(router for router in self.routers if router not in self._active)
            why = f"in a group with {_called(other)}: {other.reason}"
            return [(router, GroupYield(why)) for router in self.routers if router in self._active]
        if len(self._wanting) == len(self.routers):
            return [(router, GroupTakeOver()) for router in self.routers]
        return []


def _called(router: Router) -> str:
    return f"IPv{router.config.family} of {router.config.name}"
