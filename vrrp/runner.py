"""The runner: it starts and ends the virtual routers of a host, hands them events, and has their commands performed.

It runs alone (`python -m vrrp`), or as a child of a daemon.  The daemon must call:

- `set_priority_parts(name, parts)` with all penalties of a router each time one changes ({"service dns": -60});
  `set_fault(name, cause, failed=...)` for what the router tracks without a penalty.  The runner follows interfaces
  itself.
- `first_verdicts(name)` once every service that the router tracks has its first verdict (if `awaits_verdicts`).
- `master_lost(reason)` when the daemon's master is dead or stalled or no worker lives; `master_back()` when they are
  back.
- `standby(name)` and `resume(name)` on command.  The daemon keeps standbys on disk and repeats them after a start.
- `adopt(handover)` before `start()`, with the last `handover()` of the process that died.  The daemon asks for it at
  every `on_state` and every 0.5 s.  The runner ignores a handover that is older than a lease, unless the host still has
  the addresses.
- `reroute(settings)` when the settings have changed, and then `rerouted()`.
- `shutdown()` before the end; without it the addresses stay for a lease (2 s).

The runner needs CAP_NET_ADMIN and CAP_NET_RAW.  `precedence.take_precedence()` needs more: call it first.  The code
uses asyncio of the standard library only.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from vrrp.adoption import Adoption
from vrrp.assembly import CLOSE_TIMEOUT, Assembly
from vrrp.deadlines import Deadlines
from vrrp.events import (
    Command,
    Event,
    FirstVerdicts,
    LeaseRefreshed,
    MasterBack,
    MasterLost,
    Notify,
    Resume,
    Shutdown,
    Standby,
)
from vrrp.group import Group
from vrrp.guard import guarded
from vrrp.hands import Hands
from vrrp.instance import Instance
from vrrp.kernel import Kernel
from vrrp.moves import Moves
from vrrp.netlink import Change
from vrrp.notify import Notifier
from vrrp.numbers import Keeper, Numbers, Store
from vrrp.ports import Ports
from vrrp.report import Handover, Moved
from vrrp.rivals import Rivals
from vrrp.roster import Pair, Roster
from vrrp.router import Router
from vrrp.settings import SCRIPT_TIMEOUT, NotifySettings, RouterSettings, Settings, former
from vrrp.tracking import Tracking

_OFFER = 0.5  # s beyond an advert interval until an offer that no host accepted has ended
_BREATH = 0.001  # s between two ticks at least
_FILE = 0.5  # s that the numbers of signed adverts may take to be read or written

_log = logging.getLogger("steelyard.vrrp")


class Runner:
    """All routers of this host.

    `on_state` gets each move, `on_tell(name, words)` everything else that people should read.  `check_program` decides
    which scripts are safe to run; see `Notifier`.  `store` keeps the numbers of signed adverts.  `on_taken` is called
    when other processes of this host have claimed all of our routers: this process has nothing left to do then.
    `on_trouble(name, words)` is called when a notification could not pass something on, by default like `on_tell`.
    Methods raise KeyError for unknown names.
    """

    def __init__(
        self,
        settings: Settings,
        on_state: Callable[[Moved], None],
        on_tell: Callable[[str, str], None],
        check_program: Callable[[str, int], str] | None = None,
        store: Store | None = None,
        on_taken: Callable[[], None] = lambda: None,
        on_trouble: Callable[[str, str], None] | None = None,
    ) -> None:
        self._store = store
        self._keeper: Keeper | None = None
        self._numbers = Numbers()
        self._settings = settings
        self._on_tell = on_tell
        self._on_trouble = on_trouble or (lambda _, words: on_tell("notify", words))
        self._check = check_program
        self._kernel = Kernel(self._changed, self._changes_lost)
        self._hands = Hands(self._kernel)
        self._roster = Roster(settings)
        self._ports = Ports(self._kernel, self._roster)
        self._tracking = Tracking(self._kernel, self._roster, self._ports, self._feed)
        self._rivals = Rivals(self._roster, self._feed, on_tell, on_taken)
        self._moves = Moves(self._roster, on_state, self._rivals.spare, self._notifier)
        self._deadlines: Deadlines[Group] = Deadlines()
        self._ticking = False
        self._timer: asyncio.TimerHandle | None = None
        self._adopted: Mapping[str, Handover] = {}
        self._refreshed: dict[str, float] = {}
        self._moved = asyncio.Event()
        self._quiet = self._following = self._abandoned = False
        self._highest = 0
        self._touched: list[Pair] = []
        self._assembly = Assembly(
            self._roster, self._kernel, self._ports, self._tracking, self._rivals, self._moves,
            make=self._instance, perform=self._perform, forget=lambda group: self._deadlines.set(group, None),
            changed=self._moved,
        )  # fmt: skip
        self._loop = asyncio.get_running_loop()

    # What the daemon calls

    def adopt(self, handover: Mapping[str, Any], *, quiet: bool = False) -> None:
        """Take over from a process that died less than a lease ago.  Call it before `start`.

        With `quiet` a router that goes on as it was is reported nowhere: nothing has moved.
        """
        known = len(Handover._fields)  # a later version may tell more
        self._adopted = {
            name: Handover(*values[:known]) for name, values in handover.items() if name in self._roster.setting
        }
        self._quiet = quiet

    def handover(self, names: Collection[str] | None = None) -> dict[str, Handover]:
        """Return the argument of the next process's `adopt`, for all routers or for those in `names` that there are."""
        return {
            name: Handover(
                "active" if self.is_active(name) else "backup",
                self._refreshed.get(name, 0.0),
                max((instance.signing.sent for _, instance in self._roster.named(name)), default=0),
                self._moves.last(name),
            )
            for name in self._roster.setting
            if names is None or name in names
        }

    async def start(self) -> None:
        """Start the routers.  Raises OSError without the capabilities."""
        await self._kernel.open()
        await self._load_numbers(self._settings)
        # No await from here until the routers are claimed and made.
        self._moves.begin({name: one.last for name, one in self._adopted.items() if self._quiet and one.last})
        self._touched = self._assembly.start(
            self._settings, Adoption(self._adopted, self._roster, self._kernel).startup
        )
        self._follow_numbers()

    async def reroute(self, settings: Settings, parts: Mapping[str, Mapping[str, int]] | None = None) -> None:
        """Have the routers of these settings: what is equal stays as it is, and what differs changes where it stands.

        `parts` are those of `set_priority_parts` by name, None if they stay.  Wait for the end with `rerouted`.
        """
        await self._load_numbers(settings)
        names = former(self._settings, settings)
        self._refreshed = {name: self._refreshed[was] for name, was in names.items() if was in self._refreshed}
        self._settings = settings
        self._touched = self._assembly.change(settings, parts)
        self._follow_numbers()

    async def rerouted(self) -> list[str]:
        """Wait until addresses have been installed and removed, and routers have left; returns the faults, in words."""
        touched = self._touched
        for _, instance in touched:
            await instance.settle()
        await self._assembly.gone()
        there = [(one, instance) for one, instance in touched if one in self._roster.instances]
        return list(dict.fromkeys(f"{one.settings.name}: {router.reason}" for router, one in there if router.faults))

    async def _load_numbers(self, settings: Settings) -> None:
        """Read the stored numbers once the first router signs its adverts."""
        if self._store is None or self._keeper is not None or all(one.auth.mode == "off" for one in settings.routers):
            return
        self._keeper = Keeper(self._store, lambda words: self._on_tell("auth", words))
        self._numbers = await self._keeper.load(_FILE)
        for instance in self._roster.instances.values():
            instance.signing.know(
                self._numbers.sent, self._numbers.seen.get(_place(instance.settings, instance.family), {})
            )

    def _follow_numbers(self) -> None:
        if self._keeper is not None and not self._following:
            self._following = True
            self._keeper.follow(self._present_numbers)

    def _present_numbers(self) -> Numbers:
        instances = self._roster.instances.values()
        seen = {_place(one.settings, one.family): dict(one.signing.seen) for one in instances if one.signing.seen}
        self._highest = max((self._highest, *(one.signing.sent for one in instances)))
        return Numbers(self._highest, seen)

    async def shutdown(self, *, hand_over: bool = True) -> None:
        """Leave, and run the notify scripts to their end.  The runner leaves no address, socket or thread behind."""
        await self.leave(hand_over=hand_over)
        await self.finish()

    async def leave(self, *, hand_over: bool = True) -> None:
        """Leave, and remove the addresses.  With `hand_over` a live peer takes them first."""
        for group in self._roster.groups:
            self._hand_all(group, Shutdown(at_once=not hand_over))
        try:
            async with asyncio.timeout(self._roster.longest_interval + CLOSE_TIMEOUT):
                while any(router.state != "init" for router in self._roster.instances):
                    self._moved.clear()
                    await self._moved.wait()
                for instance in self._roster.instances.values():
                    await instance.settle()
        except TimeoutError:
            _log.error("a hand-over did not end in time")
        await self.close()

    def hurry(self) -> None:
        """End a hand-over that `leave` waits for, or the scripts that `finish` waits for."""
        if not self._abandoned:
            for group in self._roster.groups:
                self._hand_all(group, Shutdown(at_once=True))
        self._moves.hurry()

    async def abandon(self) -> None:
        """Stop at once, and leave the addresses as they are: another process of this host goes on with the routers."""
        self._abandoned = True
        self._ports.close()  # nothing is sent from here on
        self._rivals.close()  # its claim is no news
        for instance in self._roster.instances.values():
            instance.abandon()
        self._keeper = None  # that process writes the numbers
        await self.close()

    async def close(self) -> None:
        """Stop at once, and remove the addresses.  No advert of priority 0 is sent unless `leave` was called before."""
        if self._timer is not None:
            self._timer.cancel()
        self._ports.close()
        await self._assembly.close()
        for instance in self._roster.instances.values():
            await instance.close()
        await self._hands.close()
        self._rivals.close()
        if self._keeper is not None:
            await self._keeper.close(_FILE)
        await self._kernel.close()

    async def finish(self, patience: float = SCRIPT_TIMEOUT) -> None:
        """Wait until all scripts and FIFOs have got the last moves, for at most `patience` seconds."""
        await self._moves.finish(patience)

    def set_priority_parts(self, name: str, parts: Mapping[str, int]) -> None:
        """Set everything that is added to the configured priority, but for interfaces: {"service dns": -60}."""
        self._tracking.set_priority_parts(name, parts)

    def set_fault(self, name: str, cause: str, *, failed: bool) -> None:
        """Set or clear a fault: the failure of something that the router tracks without a penalty ("service dns")."""
        self._tracking.set_fault(name, cause, failed=failed)

    def first_verdicts(self, name: str) -> None:
        """Tell the router that every tracked service has its first verdict (V24)."""
        for router, _ in self._roster.named(name):
            self._feed(router, FirstVerdicts())

    def standby(self, name: str, *, reason: str = "standby", if_taken: bool = False) -> None:
        """Hand the addresses of this router (and its sync group) over, and do not take them until `resume`."""
        for router, _ in self._roster.named(name):
            self._feed(router, Standby(reason, if_taken))

    async def handed_over(self, names: Collection[str]) -> list[str]:
        """Wait until these routers have left and their addresses are gone; return those that no host took over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._roster.longest_interval + _OFFER):
                while any(self.is_active(name) for name in names):
                    self._moved.clear()
                    await self._moved.wait()
        for name in names:
            for _, instance in self._roster.named(name):
                await instance.settle()
        return [name for name in names if self.is_active(name)]

    def resume(self, name: str) -> None:
        """End a standby: the router takes part in elections again."""
        for router, _ in self._roster.named(name):
            self._feed(router, Resume())

    def master_lost(self, reason: str) -> None:
        """Leave at once and be backup at priority 1: no worker serves clients on this host (V18)."""
        self._assembly.lost = reason
        for group in self._roster.groups:
            self._hand_all(group, MasterLost(reason))

    def master_back(self) -> None:
        """Use the full priority again, after `master_lost`."""
        self._assembly.lost = ""
        for group in self._roster.groups:
            self._hand_all(group, MasterBack())

    def is_active(self, name: str) -> bool:
        """Return True if this host has the addresses of this router."""
        return self._moves.state(name) == "active"

    def counters(self) -> dict[str, dict[str, int]]:
        """Return all counters, by stable names: of each router ("outside/4"), each socket ("eth0/4") and "kernel"."""
        found = {f"{one.settings.name}/{one.family}": dict(one.counters) for one in self._roster.instances.values()}
        return found | self._ports.counters() | {"kernel": dict(self._kernel.counters)}

    def notified(self) -> dict[str, dict[str, int]]:
        """Return the counters of each notification by name: moves by what became of them, and how many wait."""
        return self._moves.notified()

    def status(self) -> list[dict[str, Any]]:
        """Return each router as `status` shows it; times are monotonic seconds."""
        return self._moves.status()

    # Routers and their groups

    def _instance(self, settings: RouterSettings, family: int) -> Instance:
        handover = self._adopted.get(settings.name)

        def feed(event: Event) -> None:
            self._feed(self._roster.router_of(made), event)

        made = Instance(
            settings,
            family,
            self._hands,
            feed=feed,
            tell=lambda words: self._on_tell(made.settings.name, words),
            sent=max(self._numbers.sent, self._highest, handover.sent if handover else 0),
            seen=self._numbers.seen.get(_place(settings, family)),
            allowed=lambda: self._rivals.spare(made),
            ready=lambda: self._ports.open(made),
            elsewhere=lambda address: self._is_held(address, made),
        )
        return made

    def _is_held(self, address: str, besides: Instance) -> bool:
        """Return True if another router holds an address on the same interface."""
        return any(
            one is not besides and one.lease.held and one.settings.interface == besides.settings.interface
            for one in self._roster.with_address(address)
        )

    def _notifier(self, settings: NotifySettings) -> Notifier:
        return Notifier(settings, lambda words: self._on_trouble(settings.name, words), self._check)

    @property
    def taken(self) -> bool:
        """Whether other processes of this host have claimed all of our routers."""
        return self._rivals.taken

    def _changed(self, change: Change) -> None:
        self._tracking.changed(change)

    def _changes_lost(self) -> None:
        self._ports.reopen()

    # Events in, commands out

    def _feed(self, router: Router, event: Event) -> None:
        now = time.monotonic()
        if isinstance(event, LeaseRefreshed):
            self._refreshed[self._roster.instances[router].settings.name] = now
        group = self._roster.group_of(router)
        self._perform(group.handle(router, event, now), group)

    def _hand_all(self, group: Group, event: Event) -> None:
        self._perform(group.handle_all(event, time.monotonic()), group)

    def _perform(self, commands: tuple[tuple[Router, Command], ...], group: Group) -> None:
        moved: dict[str, None] = {}
        left = False
        for router, command in commands:
            instance = self._roster.instances[router]
            if isinstance(command, Notify):
                self._moved.set()
                if router in self._roster.leaving:
                    left = True
                else:
                    moved[instance.settings.name] = None
            else:
                port = self._ports.of(instance)
                # If one command fails, the next are still performed: one of them may remove the addresses.
                guarded(instance.perform, command, port)
        self._deadlines.set(group, group.deadline)
        for name in moved:
            self._moves.settle(name)
        if left:
            self._assembly.settle()
        if not self._ticking:
            self._arm()

    def _arm(self, earliest: float = 0.0) -> None:
        deadline = self._deadlines.first
        at = None if deadline is None else max(deadline, earliest)
        if self._timer is not None:
            if self._timer.when() == at:
                return
            self._timer.cancel()
        self._timer = None if at is None else self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer, self._ticking = None, True
        try:
            groups = self._deadlines.due(time.monotonic())
            # Adverts that wait in the sockets arrived before the deadline.
            self._ports.read(self._roster.instances[router] for group in groups for router in group.routers)
            now = time.monotonic()
            for group in groups:
                guarded(self._perform_tick, group, now)
                self._deadlines.set(group, group.deadline)
        finally:
            self._ticking = False
        self._arm(now + _BREATH)  # if a bug keeps a deadline in the past, the other groups still run

    def _perform_tick(self, group: Group, now: float) -> None:
        self._perform(group.tick(now), group)


def _place(settings: RouterSettings, family: int) -> str:
    """Return the key of a router in the stored numbers; it does not depend on the router's name."""
    return f"{settings.interface}/{settings.vrid}/{family}"
