"""Routers that move together (V12): IPv4 and IPv6 under one name, and sync groups.

The laws:

1.  All routers of a group advertise the lowest effective priority among them.
2.  A router whose timer fires sets `wants`.  The routers take over together once all of them want to.  So a host that
    hears no peer on one segment, and a healthy peer on another, leaves the addresses where they are.
3.  When one router is no longer active, the others yield.  When one is in fault, the others go into fault.
4.  A router that joins active ones while it is undecided takes none of them with it: it becomes active as well once it
    wants to.  If it defers to another host instead, the third law holds.
"""

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
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
    Regrouped,
    RouterConfig,
    Tick,
)
from vrrp.router import Router

_ROUNDS = 8  # consequences of consequences end long before


class _View(NamedTuple):
    """The part of a router's state that matters to the others."""

    active: bool
    wants: bool
    undecided: bool
    own_priority: int
    effective_priority: int
    faults: tuple[str, ...]


class Group:
    """One or more routers that are active on the same host.  A router alone is a group of one.

    Hand events to routers through their group only.  The cost of an event depends on its consequences, not on the size
    of the group.
    """

    def __init__(
        self, members: Sequence[RouterConfig | Router], now: float, caused: Mapping[Router, str] | None = None
    ) -> None:
        """Make a router of each configuration, and take over those that were in other groups: call `regroup` next.

        The order is the same on every host: the first router decides ties.  `caused` has the `cause_of` the routers
        that are taken over.
        """
        grouped = len(members) > 1
        self.routers = tuple(
            one if isinstance(one, Router) else Router(one, now, grouped=grouped, leader=number == 0)
            for number, one in enumerate(members)
        )
        self._kept = [one for one in members if isinstance(one, Router)]
        self._caused: dict[Router, str] = {router: cause for router, cause in (caused or {}).items() if cause}
        """The fault of each router that comes from another router's fault."""
        self._places = {router: place for place, router in enumerate(self.routers)}
        self._views: dict[Router, _View] = {}
        self._deadlines: Deadlines[Router] = Deadlines()
        # Summaries of all views
        self._own: Counter[int] = Counter()
        self._active: dict[Router, None] = {}
        self._wanting: set[Router] = set()
        self._undecided: set[Router] = set()
        self._ill: set[int] = set()
        self._lowest: int | None = None
        self._first_ill: list[tuple[int, tuple[str, ...]]] | None = None  # place, and its own faults
        if grouped:
            for router in self.routers:
                self._look(router)

    def handle(self, router: Router, event: Event, now: float) -> tuple[tuple[Router, Command], ...]:
        """Hand an event to one router; return the commands of all routers that follow, in order."""
        return self._settled([(router, event)], now)

    def handle_each(self, events: Sequence[tuple[Router, Event]], now: float) -> tuple[tuple[Router, Command], ...]:
        """Hand out several events before any of their consequences."""
        return self._settled(events, now)

    def regroup(self, events: Sequence[tuple[Router, Event]], now: float) -> tuple[tuple[Router, Command], ...]:
        """Give the routers that were in other groups their place in this one, and then hand out `events`."""
        grouped = len(self.routers) > 1
        placed: list[tuple[Router, Event]] = [(one, Regrouped(grouped, one is self.routers[0])) for one in self._kept]
        if not grouped:
            placed += [(router, FaultCleared(cause)) for router, cause in self._caused.items()]
            self._caused.clear()
        return self._settled([*placed, *events], now)

    def cause_of(self, router: Router) -> str:
        """Return the fault that a router has from another router of the group, "" if it has none."""
        return self._caused.get(router, "")

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
        """Hand out events, and then the events that one router's new state causes for the others."""
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
        """Update the view of a router; return True if anything changed that matters to the others."""
        new = _View(
            router.state == "active",
            router.wants,
            router.undecided,
            router.own_priority,
            router.effective_priority,
            router.faults,
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
        (self._undecided.add if new.undecided else self._undecided.discard)(router)
        return True

    def _own_faults(self, router: Router) -> tuple[str, ...]:
        """Return the faults that a router does not have from another router."""
        return tuple(one for one in router.faults if one != self._caused.get(router))

    def _consequences(self, changed: Sequence[Router]) -> list[tuple[Router, Event]]:
        """Return the events that follow from the changed routers: those of the first law that demands any."""
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
        if self._active and len(self._active) + len(self._undecided) < len(self.routers):
            other = next(one for one in self.routers if one not in self._active and one not in self._undecided)
            why = f"in a group with {_called(other)}: {other.reason}"
            return [(router, GroupYield(why)) for router in self.routers if router in self._active]
        if self._wanting and len(self._wanting) + len(self._active) == len(self.routers):
            return [(router, GroupTakeOver()) for router in self.routers if router in self._wanting]
        return []


def _called(router: Router) -> str:
    return f"IPv{router.config.family} of {router.config.name}"
