"""What the routers follow by themselves: their interfaces, the addresses they send from, and the interfaces they track."""

import asyncio
import time
from collections.abc import Callable, Mapping

from vrrp.events import Event, Fault, FaultCleared, LinkDown, LinkUp, PriorityChanged, SourceChanged
from vrrp.fitness import Part
from vrrp.kernel import Kernel
from vrrp.netlink import AddressChanged, Change
from vrrp.ports import Ports
from vrrp.roster import Roster
from vrrp.router import Router


class Tracking:
    """Turns changes of the kernel's interfaces and addresses into events; `feed(router, event)` hands an event over."""

    def __init__(self, kernel: Kernel, roster: Roster, ports: Ports, feed: Callable[[Router, Event], None]) -> None:
        self._kernel = kernel
        self._roster = roster
        self._ports = ports
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._trackers: dict[str, list[str]] = {}  # interface -> names of the routers that track it
        self._moved_sources: set[str] = set()  # interfaces whose addresses have changed
        self._added: dict[str, dict[str, int]] = {}  # name -> what the daemon adds to the priority
        self._told: dict[str, tuple[Part, ...]] = {}  # name -> the parts that its routers have
        self._failed: dict[str, set[str]] = {}  # name -> the faults that its routers have from interfaces

    def arrange(self, before: Mapping[str, str], added: Mapping[str, Mapping[str, int]] | None = None) -> None:
        """Follow the interfaces that the settings of all routers name now.

        `before` has the name that each router had, if it was there; `added` is what the daemon adds by name, if that
        has changed as well.
        """
        names = self._roster.setting
        self._trackers = {}
        for setting in names.values():
            for track in setting.track:
                self._trackers.setdefault(track.interface, []).append(setting.name)
        old = self._added
        self._added = {name: old.get(before.get(name, ""), {}) for name in names}
        if added is not None:
            self._added = {name: dict(added.get(name, {})) for name in names}
        self._told = {name: self._told[one] for name, one in before.items() if one in self._told}
        self._failed = {name: self._failed[one] for name, one in before.items() if one in self._failed}

    def news(self, name: str) -> tuple[Part, ...] | None:
        """Return all that is added to the priority of a router, if its routers are to learn that it has changed."""
        parts = self.parts(name)
        if parts == self._told.get(name, ()):
            return None
        self._told[name] = parts
        return parts

    def parts(self, name: str) -> tuple[Part, ...]:
        """Return all that is added to the priority of a router now."""
        down = {
            f"interface {one.interface}": -one.penalty
            for one in self._roster.setting[name].track
            if one.penalty is not None and not self._is_up(one.interface)
        }
        return tuple(sorted((self._added[name] | down).items()))

    def brief(self, router: Router, name: str) -> None:
        """Tell a router that is about to start what holds for its name."""
        self._feed(router, PriorityChanged(self.parts(name)))
        for cause in sorted(self._failures(name)):
            self._feed(router, Fault(cause))
        self._told.setdefault(name, self.parts(name))
        self._failed.setdefault(name, self._failures(name))

    def set_priority_parts(self, name: str, parts: Mapping[str, int]) -> None:
        """Set what the daemon adds to the priority of a router; the penalties of interfaces stay."""
        self._added[name] = dict(parts)
        self._tell_parts(name)

    def set_fault(self, name: str, cause: str, *, failed: bool) -> None:
        """Set or clear a fault of a router."""
        for router, _ in self._roster.named(name):
            self._feed(router, Fault(cause) if failed else FaultCleared(cause))

    def changed(self, change: Change) -> None:
        """Follow one change of an interface or an address."""
        if isinstance(change, AddressChanged):
            for instance in self._roster.with_address(change.address.address):
                instance.lease.changed(change, time.monotonic())
            link = self._kernel.link_at(change.address.index)
            if link is not None:
                self._look_at_sources(link.name)
            return
        event = LinkUp() if change.link and change.link.up else LinkDown()
        for router, instance in self._roster.on_interface(change.name):
            self._ports.open(instance)
            self._feed(router, event)
        self._look_at_sources(change.name)
        for name in self._trackers.get(change.name, ()):
            self.follow(name)

    def _look_at_sources(self, interface: str) -> None:
        """Check soon whether adverts must leave from another address; many changes lead to one check."""
        if self._roster.on_interface(interface):
            if not self._moved_sources:
                self._loop.call_soon(self._follow_sources)
            self._moved_sources.add(interface)

    def _follow_sources(self) -> None:
        interfaces, self._moved_sources = self._moved_sources, set()
        reopened = set()
        for interface in interfaces:
            for router, instance in self._roster.on_interface(interface):
                source, before = instance.present_source(), instance.source
                if source == before:
                    continue
                if before is None and (interface, instance.family) not in reopened:
                    # With its last address an interface may have lost the IP version, and its groups with that.
                    reopened.add((interface, instance.family))
                    self._ports.open(instance, anew=True)
                instance.source = source
                self._feed(router, SourceChanged(source))

    def follow(self, name: str) -> None:
        """Tell a router what has changed of the interfaces that it tracks."""
        if self.parts(name) != self._told.get(name, ()):
            self._tell_parts(name)
        failed, before = self._failures(name), self._failed.get(name, set())
        self._failed[name] = failed
        for cause in sorted(failed - before):
            self.set_fault(name, cause, failed=True)
        for cause in sorted(before - failed):
            self.set_fault(name, cause, failed=False)

    def _failures(self, name: str) -> set[str]:
        """Return the faults that a router has from interfaces that it tracks without a penalty."""
        return {
            f"interface {one.interface}"
            for one in self._roster.setting[name].track
            if one.penalty is None and not self._is_up(one.interface)
        }

    def _is_up(self, interface: str) -> bool:
        link = self._kernel.link(interface)
        return link is not None and link.up

    def _tell_parts(self, name: str) -> None:
        self._told[name] = parts = self.parts(name)
        for router, _ in self._roster.named(name):
            self._feed(router, PriorityChanged(parts))
