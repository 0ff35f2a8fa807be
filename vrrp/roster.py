"""The routers of a host, found by every name and number that an event may give: no event has to search all routers."""

from collections.abc import Iterator, Sequence

from vrrp.events import State
from vrrp.group import Group
from vrrp.instance import Instance
from vrrp.report import state_of
from vrrp.router import Router
from vrrp.settings import RouterSettings, Settings

Pair = tuple[Router, Instance]
"""A router, and the hands that perform its commands."""


class Roster:
    """The routers, their instances and their groups; the runner adds each group once, when it starts."""

    def __init__(self, settings: Settings) -> None:
        self.groups: list[Group] = []
        self.instances: dict[Router, Instance] = {}
        self.setting: dict[str, RouterSettings] = {one.name: one for one in settings.routers}
        self.longest_interval = max((one.advert_interval for one in settings.routers), default=0.0)
        """The longest advert interval of all routers, in seconds."""
        self._group_of: dict[Router, Group] = {}
        self._router_of: dict[Instance, Router] = {}
        self._named: dict[str, list[Pair]] = {one.name: [] for one in settings.routers}
        self._on_interface: dict[str, list[Pair]] = {}
        self._of_wire: dict[tuple[str, int, int], Instance] = {}  # interface, IP version, VRID
        self._of_address: dict[str, list[Instance]] = {}

    def add(self, made: Sequence[Instance], now: float) -> None:
        """Make a router for each of these instances, all in one group."""
        group = Group([one.config for one in made], now)
        self.groups.append(group)
        for router, instance in zip(group.routers, made, strict=True):
            self.instances[router] = instance
            self._group_of[router] = group
            self._router_of[instance] = router
            self._named[instance.settings.name].append((router, instance))
            interface = instance.settings.interface
            self._on_interface.setdefault(interface, []).append((router, instance))
            self._of_wire[interface, instance.family, instance.settings.vrid] = instance
            for address in instance.config.addresses:
                self._of_address.setdefault(str(address), []).append(instance)

    def named(self, name: str) -> Iterator[Pair]:
        """Yield the routers of a name, at most one of each IP version.  Raises KeyError for an unknown name."""
        return iter(list(self._named[name]))

    def on_interface(self, interface: str) -> Sequence[Pair]:
        """Return the routers on an interface."""
        return self._on_interface.get(interface, ())

    def on_wire(self, interface: str, family: int, vrid: int) -> Instance | None:
        """Return the instance that an advert with this VRID is for, None if there is none (yet)."""
        return self._of_wire.get((interface, family, vrid))

    def with_address(self, address: str) -> Sequence[Instance]:
        """Return the instances that have a virtual address (text without a prefix)."""
        return self._of_address.get(address, ())

    def group_of(self, router: Router) -> Group:
        """Return the group of a router."""
        return self._group_of[router]

    def router_of(self, instance: Instance) -> Router:
        """Return the router that decides for an instance."""
        return self._router_of[instance]

    def state(self, name: str) -> State:
        """Return the state of a name: "active" if both of its IP versions are."""
        return state_of(router for router, _ in self.named(name))


def together(settings: Settings) -> list[list[str]]:
    """Return the names that move together: each sync group (groups that share a name are one), each other name alone."""
    sets: list[set[str]] = [{one.name} for one in settings.routers]
    for names in settings.sync_groups.values():
        touched = [one for one in sets if one & set(names)]
        sets = [one for one in sets if one not in touched] + [set().union(*touched)]
    return [sorted(one) for one in sorted(sets, key=sorted) if one]
