"""The virtual router (RFC 9568 section 6.4, RFC 3768 section 6.4): a table-driven machine without I/O.

The laws:

1.  `init`: the router is not started, or it waits before its first election: until `start-delay` is over and every
    tracked service has its first verdict, at most `hold-off` (V24).  `fault`: the link is down, the interface has no
    address to send from, or something that is tracked without a penalty failed.  In both states the router sends
    nothing and has no addresses.
2.  A backup takes over when its Active_Down_Timer fires.  The timer runs with the active router's interval (V3).  An
    advert of priority 0 shortens it to the skew.  An advert of higher or equal priority sets it again, and without
    preemption any advert does.  With preemption a backup ignores a lower priority (V4).  `preempt = false` only keeps a
    returning host from moving a good address, so two routers preempt all the same: an owner (RFC), and a backup that
    sees the active router's priority fall below what that router advertised before, as that host has lost its fitness.
3.  A backup that wakes up more than an interval after its deadline was not running, and may have missed adverts.  It
    counts that, and listens for one interval and the skew before it acts.
4.  An active router yields to a higher priority, and to an equal one from a higher address (V5).  Before it yields, it
    sends a last advert of its own.  Only from that advert does the other router learn that there were two, and
    announces again (V19).  An active router answers a loser at once (at most every 10 ms), even one that leaves, and
    announces the addresses again.
5.  A router that leaves sends priority 0 first (V6).  If it hands over, it continues to answer until a peer's advert
    shows that the peer has taken over, or for an interval and 50 ms.  If no peer takes over, a hand-over `if_taken` is
    called off.
6.  The addresses are a lease.  A router that gets any event later than a lease after the last refresh becomes backup
    first: a router that slept through its lease sends nothing when it wakes.
7.  Without master or workers a router leaves at once and is a backup at priority 1 (V18).  It takes the addresses back
    if no other host takes them within the down interval.
8.  In unicast only adverts from peers count (V10).  A router ignores its own adverts, other VRIDs, other versions, and,
    in version 2, other intervals (RFC 3768 section 7.1).  An advert that lists other addresses is reported, and counts.
9.  A router of a group does not take over alone: it sets `wants`, and the group lets all its routers take over together
    (vrrp/group.py).  The group's first router decides ties; the others wait for a down interval before they compare
    addresses.
10. Changed settings alone move no router.  An active one says at once what has changed in its adverts, and keeps to the
    old interval for three more adverts if the new one is longer: a backup that missed one would take over.

What a backup does is in vrrp/backup.py, and how a router leaves in vrrp/leaving.py.

`now` is monotonic; no clock is read here, so steps of the wall clock change nothing (V16).  A (state, event) pair that
the table at the end does not list cannot happen: `handle` raises UnlistedPairError.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from vrrp import events as ev
from vrrp.backup import Backup
from vrrp.events import Command, Event, RouterConfig, State
from vrrp.fitness import LEAVING, OWNER
from vrrp.leaving import GRACE, Leaving
from vrrp.packet import Advert, IPAddress
from vrrp.state import NO_LINK, NO_SOURCE
from vrrp.timers import DOWN, active_down_interval

_Handler = Callable[["Router", Any, float], None]


class UnlistedPairError(LookupError):
    """An event came in a state in which it cannot come: this is a bug."""


class Router(Leaving):
    """One virtual router of one address family.

    The runner hands it events with `now` (monotonic seconds), performs the commands in order, then sets one timer for
    `deadline` and sends a `Tick` when that time has come.
    """

    def handle(self, event: Event, now: float) -> tuple[Command, ...]:
        """Handle one event, and return the commands that follow from it.  Raises UnlistedPairError."""
        self._out = []
        if self.state == "active" and now >= self._leased_at + self.config.lease:
            self._lose_lease(event, now)
        handler = self.TABLE[self.state].get(type(event))
        if handler is None:
            raise UnlistedPairError(f"{type(event).__name__} in state {self.state}")
        handler(self, event, now)
        return tuple(self._out)

    # Starting and ending

    def _start(self, event: ev.Startup, now: float) -> None:
        if self._started_at is not None:
            raise UnlistedPairError("Startup twice")
        self._started_at = now
        self.undecided = True
        if event.adopt is None or self._fitness.faults:
            self._begin(now, "started")
        elif event.adopt == "active" and now < event.refreshed_at + self.config.lease and not self.standby:
            self._take_over("taken over from the previous process", now)
            self._leased_at = event.refreshed_at
        else:
            self._listen("taken over from the previous process", now)

    def _begin(self, now: float, reason: str) -> None:
        """Leave `init` for fault, active (an owner) or backup, or wait there (the Startup rows of the RFC)."""
        if self._fitness.faults:
            self._move("fault", self._fitness.fault_reason, now)
        elif now < self._held_until():
            waits = "start-delay" if self._verdicts else "the first verdicts"
            self._move("init", f"{reason}; waiting for {waits}", now)
        else:
            owner = self.effective_priority == OWNER and not self.standby
            if self._grouped or not owner:
                self._listen(reason, now)
            if owner:
                self._win("this host owns the addresses", now)

    def _tick_init(self, _: ev.Tick, now: float) -> None:
        if self._started_at is not None and now >= self._held_until():
            self._begin(now, "started" if self._verdicts else "started without the first verdicts: they took too long")

    def _first_verdicts(self, _: ev.FirstVerdicts, now: float) -> None:
        self._verdicts = True
        if self.state == "init":
            self._tick_init(ev.Tick(), now)

    # Active

    def _advert_active(self, event: ev.AdvertReceived, now: float) -> None:
        advert = self._screened(event, now)
        if advert is None:
            return
        if self._offer is not None:
            if advert.priority != LEAVING:
                self._leave(self._offer, f"{self._offer.reason}: handed over to {event.source}", now)
        elif advert.priority != LEAVING and self._beats(advert, event.source, now):
            ours, theirs = self.effective_priority, advert.priority
            against = f"ours is {ours}" if theirs > ours else "the same as ours, from a higher address"
            self._send(now)  # law 4
            self._down.interval = advert.interval
            self._give_up("backup", f"{event.source} advertises priority {theirs}, {against}", now)
        elif self._tie is None or advert.priority == LEAVING:
            self._beaten(advert, event.source, now)

    def _beats(self, advert: Advert, source: IPAddress, now: float) -> bool:
        ours = self.effective_priority
        if advert.priority != ours or self.config.source is None:
            self._tie = None
            return advert.priority > ours
        if not self._leader:
            wait = active_down_interval(ours, advert.interval)
            first, last = self._tie or (now, now)
            self._tie = (first if now - last < wait else now, now)
            if now - self._tie[0] < wait:
                return False
        self._tie = None
        return int(source) > int(self.config.source)

    def _beaten(self, advert: Advert, source: IPAddress, now: float) -> None:
        """Answer a loser, and announce the addresses again to the hosts that it misled.

        This holds for priority 0 as well: only a router that was active sends it.
        """
        if now - self.since > self.config.advert_interval:  # else it is the last advert of the router just replaced
            doing = f"is active as well, with priority {advert.priority}" if advert.priority else "was active as well"
            text = f"{source} {doing}; ours is {self.effective_priority}"
            self._emit(ev.Count("conflicts"), *self._heard.once("conflict", text, now))
        self._answer(now)
        self._emit(*self._announcing.again(self.config, now))

    def _tick_active(self, _: ev.Tick, now: float) -> None:
        if now >= self._offer_until:
            self._end_offer(now)
            return
        if now >= self._advert_at:
            due = self._advert_at + self._pause(now)
            self._send(now)
            self._advert_at = due if due > now else self._advert_at  # a late tick does not delay the next advert
        self._emit(*self._announcing.due(self.config, now))

    def _lease_refreshed(self, _: ev.LeaseRefreshed, now: float) -> None:
        self._leased_at = now

    def _lose_lease(self, _: Event, now: float) -> None:
        self._emit(ev.Count("lease_lost"))
        self._down.interval = self.config.advert_interval
        age = now - self._leased_at
        self._give_up("backup", f"the lease of the addresses ran out: last refreshed {age:.2f} s ago", now)

    def _address_removed(self, event: ev.AddressRemoved, now: float) -> None:
        if event.address not in self.config.addresses:
            return
        self._emit(ev.Count("address_removed"), ev.InstallAddresses((event.address,)))
        self._emit(ev.Announce((event.address,), self.config.announce_count))
        self._emit(*self._heard.once("removed", f"another program removed {event.address}: it is installed again", now))

    def _conflict(self, event: ev.Conflict, now: float) -> None:
        if self._offer is not None:
            return  # the router that takes over announces the address
        self._emit(ev.Count("conflicts"))
        self._emit(*self._heard.once("claim", f"{event.by} also claims {event.address}", now))
        self._emit(*self._announcing.answer(self.config, now))

    # Coming back

    def _resume(self, _: ev.Resume, now: float) -> None:
        was, self.standby = self.standby, False
        if self.state == "active":
            if isinstance(self._offer, ev.Standby):
                self._offer, self._offer_until = None, math.inf
                self._send(now)
        elif was:
            self._emit(ev.Tell("resumed: taking part in elections again"))
            if self.state == "backup":
                self._begin(now, "resumed")

    # Fitness

    def _fault(self, event: ev.Fault | ev.LinkDown, now: float) -> None:
        self._add_fault(NO_LINK if isinstance(event, ev.LinkDown) else event.cause, now)

    def _add_fault(self, cause: str, now: float) -> None:
        self._fitness.faults[cause] = None
        if self.state == "active":
            if cause not in {NO_LINK, *NO_SOURCE.values()}:
                self._send(now, LEAVING)
            self._give_up("fault", self._fitness.fault_reason, now, 0.0 if cause == NO_LINK else GRACE)
        elif self._started_at is not None:
            self._down.stop()
            self.wants = False
            self._move("fault", self._fitness.fault_reason, now)

    def _fault_cleared(self, event: ev.FaultCleared | ev.LinkUp, now: float) -> None:
        self._clear_fault(NO_LINK if isinstance(event, ev.LinkUp) else event.cause, now)

    def _clear_fault(self, cause: str, now: float) -> None:
        if cause in self._fitness.faults:
            del self._fitness.faults[cause]
            if self.state == "fault":
                self._begin(now, f"fault cleared: {cause}")

    def _source_changed(self, event: ev.SourceChanged, now: float) -> None:
        self._configure(replace(self.config, source=event.source))
        if event.source is None:
            self._add_fault(NO_SOURCE[self.config.family], now)
        else:
            self._clear_fault(NO_SOURCE[self.config.family], now)

    def _priority_changed(self, event: ev.PriorityChanged, now: float) -> None:
        before, self._fitness.parts = self.effective_priority, event.parts
        self._tell_priority(before, now)

    def _set_group_priority(self, event: ev.GroupPriority, now: float) -> None:
        before, self._fitness.group = self.effective_priority, event.priority
        self._tell_priority(before, now)

    def _master_lost(self, event: ev.MasterLost, now: float) -> None:
        before, self._fitness.last_resort = self.effective_priority, True
        if self.state == "active":
            self._send(now, LEAVING)
            self._down.interval = self.config.advert_interval
            self._give_up("backup", event.reason, now, GRACE)
        self._tell_priority(before, now)

    def _master_back(self, _: ev.MasterBack, now: float) -> None:
        before, self._fitness.last_resort = self.effective_priority, False
        self._tell_priority(before, now)

    def _tell_priority(self, before: int, now: float, *, news: bool = False) -> None:
        """Report a changed priority, and send it to the peers at once; a backup's deadline follows by itself.

        With `news` something else in the adverts has changed, which the peers must have at once as well.
        """
        after = self.effective_priority
        if before != after:
            parts = ", ".join(f"{name} {amount:+d}" for name, amount in self.priority_parts[1:])
            self._emit(ev.Tell(f"priority {before} -> {after}" + (f" ({parts})" if parts else "")))
        if (news or before != after) and self.state == "active" and self._offer is None:
            self._answer(now)

    # A reload

    def _configure(self, config: RouterConfig) -> None:
        self.config = self._heard.config = config
        self._fitness.configured = config.priority

    def _reconfigured(self, event: ev.Reconfigured, now: float) -> None:
        old, new, before = self.config, event.config, self.effective_priority
        if (old.vrid, old.family) != (new.vrid, new.family):
            raise ValueError(f"not the same router: {new}")
        self._configure(replace(new, source=old.source))
        if event.parts is not None:
            self._fitness.parts = event.parts
        if self.state == "active":
            if new.advert_interval > old.advert_interval:
                self._brisk = (old.advert_interval, now + DOWN * old.advert_interval)
            self._change_addresses(old.addresses)
        elif self.state == "backup" and self.peer is None:
            self._down.interval = new.advert_interval
        self._tell_priority(before, now, news=_on_wire(old) != _on_wire(new))
        self._source_changed(ev.SourceChanged(new.source), now)

    def _change_addresses(self, before: tuple[IPAddress, ...]) -> None:
        now = self.config.addresses
        if before == now:
            return
        there, were = frozenset(now), frozenset(before)
        gone = tuple(address for address in before if address not in there)
        new = tuple(address for address in now if address not in were)
        if gone:
            self._emit(ev.ResetConnections(gone, GRACE), ev.DropAddresses(gone))
        if new:
            self._emit(ev.InstallAddresses(new), ev.Announce(new, self.config.announce_count))

    def _regrouped(self, event: ev.Regrouped, now: float) -> None:
        before, self._tie = self.effective_priority, None
        self._grouped, self._leader = event.grouped, event.leader
        if event.grouped:
            return  # the group sends its priority next
        self._fitness.group = None
        self._tell_priority(before, now)
        if self.wants:
            self._take_over(self.reason, now)

    # Events without effect

    def _note_advert(self, event: ev.AdvertReceived, now: float) -> None:
        self._screened(event, now)

    def _ignore(self, event: Event, now: float) -> None:
        """Do nothing: the event does not matter in this state."""

    # Handled alike in every state
    _ALWAYS: ClassVar[dict[type, _Handler]] = {
        ev.PriorityChanged: _priority_changed,
        ev.GroupPriority: _set_group_priority,
        ev.LinkDown: _fault,
        ev.LinkUp: _fault_cleared,
        ev.Fault: _fault,
        ev.FaultCleared: _fault_cleared,
        ev.SourceChanged: _source_changed,
        ev.MasterLost: _master_lost,
        ev.MasterBack: _master_back,
        ev.FirstVerdicts: _first_verdicts,
        ev.Reconfigured: _reconfigured,
        ev.Regrouped: _regrouped,
        ev.Resume: _resume,
    }

    # Events that may reach a router after it has given the addresses up
    _NOT_ACTIVE: ClassVar[dict[type, _Handler]] = {
        ev.LeaseRefreshed: _ignore,
        ev.LeaseLost: _ignore,
        ev.AddressRemoved: _ignore,
        ev.Conflict: _ignore,
        ev.GroupYield: _ignore,
        ev.Standby: Leaving._standby,
        ev.Shutdown: Leaving._stop,
    }

    TABLE: ClassVar[Mapping[State, Mapping[type, _Handler]]] = {
        "init": {
            **_ALWAYS,
            **_NOT_ACTIVE,
            ev.Startup: _start,
            ev.Tick: _tick_init,
            ev.AdvertReceived: _note_advert,
        },
        "backup": {
            **_ALWAYS,
            **_NOT_ACTIVE,
            ev.Tick: Backup._tick_backup,
            ev.AdvertReceived: Backup._advert_backup,
            ev.GroupTakeOver: Backup._group_take_over,
        },
        "active": {
            **_ALWAYS,
            ev.Tick: _tick_active,
            ev.AdvertReceived: _advert_active,
            ev.LeaseRefreshed: _lease_refreshed,
            ev.LeaseLost: _lose_lease,
            ev.AddressRemoved: _address_removed,
            ev.Conflict: _conflict,
            ev.Shutdown: Leaving._offer_or_leave,
            ev.Standby: Leaving._offer_or_leave,
            ev.GroupYield: Leaving._group_yield,
        },
        "fault": {
            **_ALWAYS,
            **_NOT_ACTIVE,
            ev.Tick: _ignore,
            ev.AdvertReceived: _note_advert,
        },
    }


def _on_wire(config: RouterConfig) -> tuple[object, ...]:
    """Return what the adverts of a router show of its configuration, without the priority, and where they go."""
    return config.version, config.addresses, config.advert_interval, config.source, config.peers
