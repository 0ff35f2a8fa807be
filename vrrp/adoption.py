"""How routers start beside what a process of this host has left that had them before."""

import time
from collections.abc import Mapping
from typing import Literal

from vrrp.events import Startup
from vrrp.instance import Instance
from vrrp.kernel import Kernel
from vrrp.report import Handover
from vrrp.roster import Roster
from vrrp.virtualmac import name_of


class Adoption:
    """Decides from the handovers of the previous process, and from the addresses that the host has."""

    def __init__(self, handovers: Mapping[str, Handover], roster: Roster, kernel: Kernel) -> None:
        self._handovers = handovers
        self._roster = roster
        self._kernel = kernel

    def startup(self, instance: Instance) -> Startup:
        """Return how a router starts: as it was, and as those were that move with it, if that process knew it."""
        routers = self._roster.group_of(self._roster.router_of(instance)).routers
        group = [self._roster.instances[one] for one in routers]
        known = {one: self._handovers[one.settings.name] for one in group if one.settings.name in self._handovers}
        if instance not in known:
            return Startup()
        if all(self._is_leased(one) for one in known):
            return Startup("active", time.monotonic())  # the kernel has them still: the lease runs
        state: Literal["active", "backup"] = (
            "active" if all(one.state == "active" for one in known.values()) else "backup"
        )
        return Startup(state, min(one.refreshed_at for one in known.values()))

    def _is_leased(self, instance: Instance) -> bool:
        """Return True if the interface has all addresses of a router as leases."""
        link = self._kernel.link(instance.settings.interface)
        if link is None:
            return False
        virtual = self._kernel.link(name_of(link.index, instance.settings.vrid, instance.family))
        here = {link.index, link.index if virtual is None else virtual.index}
        there = [[one for one in self._kernel.places(str(ip)) if one.lease] for ip in instance.config.addresses]
        return all(any(one.index in here for one in places) for places in there)
