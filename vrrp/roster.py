"""The routers of a host, found by every name and number that an event may give: no event has to search all routers."""

from collections.abc import Iterator, Sequence

from vrrp.events import State
from vrrp.group import Group
from vrrp.instance import Instance
from vrrp.report import state_of
from vrrp.router import Router
from vrrp.settings import Key, RouterSettings, Settings

Pair = tuple[Router, Instance]
"""A router, and the hands that perform its commands."""


class Roster:
    """The routers, their instances and their groups.

    A router that is no longer in the settings is `leaving` until it has handed its addresses over: it is found by its
    interface and its addresses, but not by its name, which another one may have by then.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.groups: list[Group] = []
        self.instances: dict[Router, Instance] = {}
        self.leaving: set[Router] = set()
        self.setting: dict[str, RouterSettings] = {one.name: one for one in settings.routers}
        self._group_of: dict[Router, Group] = {}
        self._router_of: dict[Instance, Router] = {}
        self._named: dict[str, list[Pair]] = {one.name: [] for one in settings.routers}
        self._on_interface: dict[str, list[Pair]] = {}
        self._of_wire: dict[Key, Instance] = {}
        self._of_address: dict[str, list[Instance]] = {}

    def arrange(self, settings: Settings, groups: Sequence[tuple[Group, Sequence[Instance]]]) -> None:
        """Have these settings, and these groups with the instances of their routers, in place of all others."""
        self.settings = settings
        self.setting = {one.name: one for one in settings.routers}
        self.groups = [group for group, _ in groups]
        pairs = [(group, pair) for group, made in groups for pair in zip(group.routers, made, strict=True)]
        self.instances = {router: instance for _, (router, instance) in pairs}
        self.leaving &= self.instances.keys()
        self._group_of = {router: group for group, (router, _) in pairs}
        self._router_of = {instance: router for router, instance in self.instances.items()}
        self._named = {name: [] for name in self.setting}
        self._on_interface, self._of_wire, self._of_address = {}, {}, {}
        for router, instance in self.instances.items():
            if router not in self.leaving:
                self._named[instance.settings.name].append((router, instance))
            self._on_interface.setdefault(instance.settings.interface, []).append((router, instance))
            self._of_wire[instance.key] = instance
            for address in instance.config.addresses:
                self._of_address.setdefault(str(address), []).append(instance)

    @property
    def longest_interval(self) -> float:
        """The longest advert interval of all routers, in seconds."""
        return max((one.settings.advert_interval for one in self.instances.values()), default=0.0)

    def named(self, name: str) -> Iterator[Pair]:
        """Yield the routers of a name, at most one of each IP version.  Raises KeyError for an unknown name."""
        return iter(list(self._named[name]))

    def on_interface(self, interface: str) -> Sequence[Pair]:
        """Return the routers on an interface."""
        return self._on_interface.get(interface, ())

    def on_wire(self, key: Key) -> Instance | None:
        """Return the instance that adverts with this VRID are for, None if there is none (yet)."""
        return self._of_wire.get(key)

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
        """Return the state of a name: "active" if both of its IP versions are.

        One that has joined the other and is undecided yet does not count: the name has not moved by that.
        """
        routers = [router for router, _ in self.named(name)]
        return state_of([router for router in routers if not router.undecided] or routers)


def together(settings: Settings) -> list[list[str]]:
    """Return the names that move together: each sync group (groups that share a name are one), each other name alone."""
    sets: list[set[str]] = [{one.name} for one in settings.routers]
    for names in settings.sync_groups.values():
        touched = [one for one in sets if one & set(names)]
        sets = [one for one in sets if one not in touched] + [set().union(*touched)]
    return [sorted(one) for one in sorted(sets, key=sorted) if one]
