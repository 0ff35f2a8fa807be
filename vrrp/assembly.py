"""Makes, changes and ends the routers of a host, so that they are those of its settings.

A router stays what it is while its interface, VRID and IP version stay: its state, its timers and its knowledge of the
other hosts survive a change of everything else, and a router whose settings are equal is not touched.  A router that the
settings no longer have hands its addresses over and leaves.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from vrrp.events import (
    Command,
    Event,
    Fault,
    FaultCleared,
    LinkDown,
    MasterLost,
    Reconfigured,
    Resume,
    Shutdown,
    Startup,
)
from vrrp.group import Group
from vrrp.guard import guarded
from vrrp.instance import Instance
from vrrp.kernel import Kernel
from vrrp.moves import Moves
from vrrp.ports import Ports
from vrrp.rivals import Rivals
from vrrp.roster import Pair, Roster, together
from vrrp.router import Router
from vrrp.settings import Key, RouterSettings, Settings
from vrrp.tracking import Tracking

GONE = "it is no longer in the configuration"
CLOSE_TIMEOUT = 5.0  # s that a hand-over may take beyond what the routers ask for

_log = logging.getLogger("steelyard.vrrp")

Perform = Callable[[tuple[tuple[Router, Command], ...], Group], None]


class Assembly:
    """The routers of a host.

    `perform(commands, group)` has commands carried out; `make(settings, family)` makes an instance; `forget(group)` ends
    the timer of a group that is no more; `changed` is set at each move of a router.
    """

    def __init__(
        self,
        roster: Roster,
        kernel: Kernel,
        ports: Ports,
        tracking: Tracking,
        rivals: Rivals,
        moves: Moves,
        *,
        make: Callable[[RouterSettings, int], Instance],
        perform: Perform,
        forget: Callable[[Group], None],
        changed: asyncio.Event,
    ) -> None:
        self._roster = roster
        self._kernel = kernel
        self._ports = ports
        self._tracking = tracking
        self._rivals = rivals
        self._moves = moves
        self._make = make
        self._perform = perform
        self._forget = forget
        self._changed = changed
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = False
        self.lost = ""
        """Why this host serves nothing, for routers that start meanwhile; "" if it serves."""

    # The start

    def start(self, settings: Settings, startup: Callable[[Instance], Startup]) -> list[Pair]:
        """Make all routers, and start each with the event that `startup` returns for it; returns them."""
        self._rivals.claim([key for one in settings.routers for key in one.keys])
        made = {
            key: self._make(one, family)
            for one in settings.routers
            for key, family in zip(one.keys, one.families, strict=True)
        }
        now = time.monotonic()
        groups = []
        for keys in _grouped(settings):
            instances = [made[key] for key in keys]
            groups.append((Group([one.config for one in instances], now), instances))
        self._roster.arrange(settings, groups)
        self._tracking.arrange({})
        new = list(self._roster.instances.items())
        self._begin(new, startup)
        return new

    def _begin(self, pairs: Sequence[Pair], startup: Callable[[Instance], Startup]) -> None:
        """Start routers that were just made, or that had left."""
        for router, instance in pairs:
            self._ports.open(instance)
            if instance.unfit:
                self._feed(router, Fault(instance.unfit))
            link = self._kernel.link(instance.settings.interface)
            if link is None or not link.up:
                self._feed(router, LinkDown())
            self._tracking.brief(router, instance.settings.name)
            if self.lost:
                self._feed(router, MasterLost(self.lost))
        by_group: dict[Group, list[tuple[Router, Event]]] = {}
        for router, instance in pairs:
            by_group.setdefault(self._roster.group_of(router), []).append((router, startup(instance)))
        for group, events in by_group.items():
            self._perform(group.handle_each(events, time.monotonic()), group)
        for _, instance in pairs:
            if not instance.lease.held:
                instance.clean()

    # A change

    def change(self, settings: Settings, added: Mapping[str, Mapping[str, int]] | None) -> list[Pair]:
        """Have the routers of these settings; returns those that are new or have changed.

        `added` is what the daemon adds to the priorities by name, None if that stays as it is.
        """
        roster = self._roster
        wanted = {key: (one, key[2]) for one in settings.routers for key in one.keys}
        present = {instance.key: (router, instance) for router, instance in roster.instances.items()}
        before = {
            settings_.name: present[key][1].settings.name
            for key, (settings_, _) in wanted.items()
            if key in present and present[key][0] not in roster.leaving
        }
        gone = [pair for key, pair in present.items() if key not in wanted and pair[0] not in roster.leaving]
        back = [pair for key, pair in present.items() if key in wanted and pair[0] in roster.leaving]
        self._rivals.change([*wanted, *present])
        for router, _ in back:
            guarded(self._feed, router, Shutdown(at_once=True))
            guarded(self._feed, router, Resume())
        roster.leaving |= {router for router, _ in gone}
        roster.leaving -= {router for router, _ in back}

        changed: list[Pair] = []
        unfit: list[tuple[Router, str, str]] = []
        made: dict[Key, Instance] = {}
        for key, (one, family) in wanted.items():
            if key not in present:
                made[key] = self._make(one, family)
                continue
            router, instance = present[key]
            if instance.settings != one:
                was = instance.unfit
                instance.change(one)
                changed.append((router, instance))
                unfit.append((router, was, instance.unfit))
        dissolved = self._regroup(settings, present, made)
        self._tracking.arrange(before, added)
        self._moves.arrange(before)
        self._reconfigure(changed, dissolved)
        for router, was, is_ in unfit:
            if was != is_:
                if is_:
                    self._feed(router, Fault(is_))
                if was:
                    self._feed(router, FaultCleared(was))
        new = [(roster.router_of(one), one) for one in made.values()] + back
        self._begin(new, lambda _: Startup())
        for name in roster.setting:
            self._tracking.follow(name)
            self._moves.settle(name)
        self._send_away(gone)
        self._ports.trim()
        self._moves.retire()
        return changed + new

    def _regroup(self, settings: Settings, present: Mapping[Key, Pair], made: Mapping[Key, Instance]) -> list[Group]:
        """Put the routers into the groups of the settings; returns the groups that are no more.

        A group whose routers stay the same stays.  Those that leave are a group of their own, by name.
        """
        roster = self._roster
        known = {key: router for key, (router, _) in present.items()}
        instances = {key: instance for key, (_, instance) in present.items()} | dict(made)
        leaving: dict[str, list[Key]] = {}
        for key, (router, instance) in present.items():
            if router in roster.leaving:
                leaving.setdefault(instance.settings.name, []).append(key)
        old = {group.routers: group for group in roster.groups}
        caused = {router: roster.group_of(router).cause_of(router) for router in known.values()}
        now = time.monotonic()
        groups = []
        for keys in [*_grouped(settings), *leaving.values()]:
            routers = tuple(known.get(key) for key in keys)
            group = old.pop(routers, None)  # type: ignore[arg-type]
            if group is None:
                members = [known.get(key) or made[key].config for key in keys]
                group = Group(members, now, {one: caused[one] for one in routers if one is not None})
            groups.append((group, [instances[key] for key in keys]))
        roster.arrange(settings, groups)
        return list(old.values())

    def _reconfigure(self, changed: Sequence[Pair], dissolved: Iterable[Group]) -> None:
        """Hand each group what has changed of its routers, and those of a new group their place in it."""
        ended = list(dissolved)
        moved = {router for group in ended for router in group.routers}
        for group in ended:
            self._forget(group)
        parts = {name: self._tracking.news(name) for name in self._roster.setting}
        named = {router: name for name in self._roster.setting for router, _ in self._roster.named(name)}
        names = dict(changed)
        for group in self._roster.groups:
            events: list[tuple[Router, Event]] = []
            for router in group.routers:
                news = parts[named[router]] if router in named else None
                if router in names or news is not None:
                    events.append((router, Reconfigured(self._roster.instances[router].config, news)))
            if any(router in moved for router in group.routers):
                self._perform(group.regroup(events, time.monotonic()), group)
            elif events:
                self._perform(group.handle_each(events, time.monotonic()), group)

    # Routers that leave

    def _send_away(self, pairs: Sequence[Pair]) -> None:
        """Let these routers hand their addresses over, and end them once they have."""
        by_group: dict[Group, list[Pair]] = {}
        for router, instance in pairs:
            by_group.setdefault(self._roster.group_of(router), []).append((router, instance))
        for group, members in by_group.items():
            task = asyncio.create_task(self._see_off(members))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._perform(group.handle_all(Shutdown(GONE), time.monotonic()), group)

    async def _see_off(self, pairs: Sequence[Pair]) -> None:
        mine = {router for router, _ in pairs}
        try:
            async with asyncio.timeout(self._roster.longest_interval + CLOSE_TIMEOUT):
                while not self._ending and any(router.state != "init" for router in mine & self._roster.leaving):
                    self._changed.clear()
                    await self._changed.wait()
                for _, instance in pairs:
                    await instance.settle()
        except TimeoutError:
            _log.error("a hand-over did not end in time")
        gone = [(router, instance) for router, instance in pairs if router in self._roster.leaving]
        self._remove([router for router, _ in gone])
        for _, instance in gone:
            await instance.close()

    def _remove(self, gone: Sequence[Router]) -> None:
        roster = self._roster
        for name, pairs in self._left_by_name().items():
            self._moves.left(name, pairs)
        roster.leaving -= set(gone)
        groups, smaller = [], []
        now = time.monotonic()
        for group in roster.groups:
            rest = [router for router in group.routers if router not in gone]
            kept = group
            if len(rest) < len(group.routers):
                self._forget(group)
                if not rest:
                    continue
                kept = Group(rest, now, {router: group.cause_of(router) for router in rest})
                smaller.append(kept)
            groups.append((kept, [roster.instances[router] for router in rest]))
        roster.arrange(roster.settings, groups)
        for group in smaller:
            self._perform(group.regroup((), now), group)
        self._rivals.change([one.key for one in roster.instances.values()])
        self._ports.trim()
        self._moves.retire()

    def settle(self) -> None:
        """Tell of the routers that leave, once all routers of a name have left."""
        for name, pairs in self._left_by_name().items():
            if all(router.state == "init" for router, _ in pairs):
                self._moves.left(name, pairs)

    def _left_by_name(self) -> dict[str, list[Pair]]:
        found: dict[str, list[Pair]] = {}
        for router in self._roster.leaving:
            instance = self._roster.instances[router]
            found.setdefault(instance.settings.name, []).append((router, instance))
        return found

    async def gone(self) -> None:
        """Wait until all routers that leave have left."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """End the routers that leave, without waiting for another host."""
        self._ending = True
        self._changed.set()
        await self.gone()

    # Events

    def _feed(self, router: Router, event: Event) -> None:
        group = self._roster.group_of(router)
        self._perform(group.handle(router, event, time.monotonic()), group)


def _grouped(settings: Settings) -> list[list[Key]]:
    """Return the keys of the routers that move together, group by group."""
    by_name = {one.name: one.keys for one in settings.routers}
    return [[key for name in names for key in by_name[name]] for names in together(settings)]
