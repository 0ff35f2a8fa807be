"""What the routers follow by themselves: their interfaces, the addresses they send from, and the interfaces they track."""

import asyncio
import time
from collections.abc import Callable, Mapping

from vrrp.events import Event, Fault, FaultCleared, LinkDown, LinkUp, PriorityChanged, SourceChanged
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
        self._parts: dict[str, dict[str, int]] = {name: {} for name in roster.setting}
        self._tracked: dict[tuple[str, str], bool] = {}  # router's and interface's name -> whether it is up

    def start(self) -> None:
        """Follow the interfaces that routers track."""
        for setting in self._roster.setting.values():
            for track in setting.track:
                self._trackers.setdefault(track.interface, []).append(setting.name)
                self._follow(setting.name, track.interface)

    def set_priority_parts(self, name: str, parts: Mapping[str, int]) -> None:
        """Set what the daemon adds to the priority of a router; the penalties of interfaces stay."""
        own = {key: value for key, value in self._parts[name].items() if key.startswith("interface ")}
        self._parts[name] = own | dict(parts)
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
            self._follow(name, change.name)

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

    def _follow(self, name: str, interface: str) -> None:
        """Tell a router whether an interface that it tracks is up."""
        link = self._kernel.link(interface)
        up = link is not None and link.up
        if self._tracked.get((name, interface)) == up:
            return
        self._tracked[name, interface] = up
        penalty = next(one.penalty for one in self._roster.setting[name].track if one.interface == interface)
        if penalty is None:
            self.set_fault(name, f"interface {interface}", failed=not up)
            return
        self._parts[name].pop(f"interface {interface}", None)
        if not up:
            self._parts[name][f"interface {interface}"] = -penalty
        self._tell_parts(name)

    def _tell_parts(self, name: str) -> None:
        parts = tuple(sorted(self._parts[name].items()))
        for router, _ in self._roster.named(name):
            self._feed(router, PriorityChanged(parts))
