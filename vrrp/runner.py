"""The one executor of what the virtual routers decide: sockets, addresses, one timer, and those who want to be told.

It works alone (`python -m vrrp`), and as a child of a daemon, which must feed it:

- `set_priority_parts(name, parts)`, all penalties of a router each time one changes ({"service dns": -60});
  `set_fault(name, cause, reason or None)` for what is tracked without a penalty; interfaces it follows by itself.
- `first_verdicts(name)` once every service that the router tracks has its first verdict (if `awaits_verdicts`).
- `master_lost(reason)` when the daemon's master is dead or stalled or no worker lives, `master_back()` when it is well.
- `standby(name)` and `resume(name)` on command and, as whoever runs it keeps that on disk, after a start.
- `adopt(handover)` before `start()` with what the dead process before this one said last by `handover()`: ask for it at
  every `on_state` and every 0.5 s.  Older than a lease, it is ignored by itself.
- `shutdown()` before the end; without it the addresses stay for a lease (2 s).

It wants CAP_NET_ADMIN and CAP_NET_RAW; `precedence.take_precedence()` first, as that takes more.  stdlib asyncio only.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Literal

from vrrp.claims import Claims, Key
from vrrp.deadlines import Deadlines
from vrrp.events import (
    Command,
    Event,
    Fault,
    FaultCleared,
    FirstVerdicts,
    LeaseRefreshed,
    LinkDown,
    LinkUp,
    MasterBack,
    MasterLost,
    Notify,
    PriorityChanged,
    Resume,
    Shutdown,
    SourceChanged,
    Standby,
    Startup,
    State,
)
from vrrp.group import Group
from vrrp.instance import Hands, Instance
from vrrp.kernel import Kernel
from vrrp.netlink import AddressChanged, Change
from vrrp.notify import Notifier
from vrrp.numbers import Keeper, Numbers, Store
from vrrp.report import Handover, Moved, state_of, status_of
from vrrp.router import Router
from vrrp.settings import SCRIPT_TIMEOUT, RouterSettings, Settings
from vrrp.sockets import Packet, Port

_CLOSE_TIMEOUT = 5.0  # s that a hand-over may take beyond what the routers ask for
_OFFER = 0.5  # s beyond an advert interval until an offer that nobody took has ended
_BREATH = 0.001  # s between two ticks at least
_FILE = 0.5  # s that the numbers of signed adverts may take to be read or written
_TAKEN = "taken over by"

_log = logging.getLogger("steelyard.vrrp")


class Runner:
    """All routers of this host.  `on_state` is told moves, `on_tell(name, words)` everything else for people to read.

    `check_program` says which scripts are safe to run; see `Notifier`.  `store` keeps the numbers of signed adverts.
    `on_taken` is called when other processes of this host have become all of our routers: nothing is left to do then.
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
    ) -> None:
        self._store = store
        self._keeper: Keeper | None = None
        self._numbers = Numbers()
        self._settings = settings
        self._on_state = on_state
        self._on_tell = on_tell
        self._check = check_program
        self._on_taken = on_taken
        keys = [(one.interface, one.vrid, family) for one in settings.routers for family in one.families]
        self._claims = Claims(keys, on_lost=self._lost, on_regained=self._regained, on_taken=self._took)
        self._kernel = Kernel(self._changed, self._changes_lost)
        self._hands = Hands(self._kernel)
        self._groups: list[Group] = []
        self._deadlines: Deadlines[Group] = Deadlines()
        self._instances: dict[Router, Instance] = {}
        self._group_of: dict[Router, Group] = {}
        # So that no event has to look at every router
        self._router_of: dict[Instance, Router] = {}
        self._setting = {one.name: one for one in settings.routers}
        self._named: dict[str, list[tuple[Router, Instance]]] = {one.name: [] for one in settings.routers}
        self._on_interface: dict[str, list[tuple[Router, Instance]]] = {}
        self._of_wire: dict[tuple[str, int, int], Instance] = {}  # interface, IP version, VRID
        self._of_address: dict[str, list[Instance]] = {}
        self._trackers: dict[str, list[str]] = {}  # interface -> names of the routers that track it
        self._moved_sources: set[str] = set()  # interfaces whose addresses have changed
        self._ticking = False
        self._ports: dict[tuple[str, int], Port] = {}
        self._port_counters: dict[tuple[str, int], Counter[str]] = {}
        self._notifiers: list[Notifier] = []
        self._timer: asyncio.TimerHandle | None = None
        self._parts: dict[str, dict[str, int]] = {one.name: {} for one in settings.routers}
        self._tracked: dict[tuple[str, str], bool] = {}  # router's and interface's name -> whether it is up
        self._states: dict[str, State] = {one.name: "init" for one in settings.routers}
        self._group_states: dict[str, State] = {}
        self._last: dict[str, dict[str, Any]] = {}
        self._adopted: Mapping[str, Handover] = {}
        self._refreshed: dict[str, float] = {}
        self._moved = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    # The owner's side

    def adopt(self, handover: Mapping[str, Any]) -> None:
        """Take over from a process that died less than a lease ago; before `start`."""
        self._adopted = {name: Handover(*values) for name, values in handover.items() if name in self._parts}

    def handover(self, names: Collection[str] | None = None) -> dict[str, Handover]:
        """Return what `adopt` of the next process wants, by name; of all, or of some."""
        return {
            name: Handover(
                "active" if self._states[name] == "active" else "backup",
                self._refreshed.get(name, 0.0),
                max(instance.sent for _, instance in self._of(name)),
            )
            for name in (self._states if names is None else names)
        }

    async def start(self) -> None:
        """Begin; OSError without the capabilities."""
        await self._kernel.open()
        if self._store is not None and any(one.auth.mode != "off" for one in self._settings.routers):
            self._keeper = Keeper(self._store, lambda words: self._on_tell("auth", words))
            self._numbers = await self._keeper.load(_FILE)
        self._claim()  # nothing waits from here on until the routers are made
        self._notifiers = [
            Notifier(one, lambda words: self._on_tell("notify", words), self._check) for one in self._settings.notify
        ]
        now = time.monotonic()
        for members in self._together():
            self._build(members, now)
        for router, instance in self._instances.items():
            self._open(instance)
            if instance.unfit:
                self._feed(router, Fault(instance.unfit))
            link = self._kernel.link(instance.settings.interface)
            if link is None or not link.up:
                self._feed(router, LinkDown())
        for setting in self._settings.routers:
            for track in setting.track:
                self._trackers.setdefault(track.interface, []).append(setting.name)
                self._follow(setting.name, track.interface)
        for group in self._groups:
            self._hand_all(group, self._startup(group))
        for instance in self._instances.values():
            if not instance.lease.held:
                instance.clean()
        if self._keeper is not None:
            self._keeper.follow(self._present_numbers)

    def _present_numbers(self) -> Numbers:
        seen = {_place(one.settings, one.family): dict(one.seen) for one in self._instances.values() if one.seen}
        return Numbers(max((one.sent for one in self._instances.values()), default=0), seen)

    def _startup(self, group: Group) -> Startup:
        """Return how a group begins: as the process before us left it, if that knew all of it."""
        known = [self._adopted.get(self._instances[one].settings.name) for one in group.routers]
        adopted = [one for one in known if one is not None]
        if not adopted or len(adopted) < len(known):
            return Startup()
        state: Literal["active", "backup"] = "active" if all(one.state == "active" for one in adopted) else "backup"
        return Startup(state, min(one.refreshed_at for one in adopted))

    async def shutdown(self, *, hand_over: bool = True) -> None:
        """Leave, and tell those who want to be told.  Nothing of ours is left afterwards."""
        await self.leave(hand_over=hand_over)
        await self.finish()

    async def leave(self, *, hand_over: bool = True) -> None:
        """Leave: with `hand_over` a live peer takes the addresses first.  They are not here afterwards."""
        for group in self._groups:
            self._hand_all(group, Shutdown(at_once=not hand_over))
        longest = max((one.advert_interval for one in self._settings.routers), default=0.0)
        try:
            async with asyncio.timeout(longest + _CLOSE_TIMEOUT):
                while any(router.state != "init" for router in self._instances):
                    self._moved.clear()
                    await self._moved.wait()
                for instance in self._instances.values():
                    await instance.settle()
        except TimeoutError:
            _log.error("a hand-over did not end in time")
        await self.close()

    def hurry(self) -> None:
        """End a hand-over that `leave` waits for, or the scripts that `finish` waits for."""
        for group in self._groups:
            self._hand_all(group, Shutdown(at_once=True))
        for notifier in self._notifiers:
            notifier.hurry()

    async def close(self) -> None:
        """Stop at once, and remove the addresses; without an advert if `leave` did not go before."""
        if self._timer is not None:
            self._timer.cancel()
        for port in self._ports.values():
            port.close()
        self._ports.clear()
        for instance in self._instances.values():
            await instance.close()
        await self._hands.close()
        self._claims.close()
        if self._keeper is not None:
            await self._keeper.close(_FILE)
        await self._kernel.close()

    async def finish(self, patience: float = SCRIPT_TIMEOUT) -> None:
        """Wait until those who want to be told have been, for at most `patience` seconds."""
        await asyncio.gather(*(notifier.close(patience) for notifier in self._notifiers))

    def set_priority_parts(self, name: str, parts: Mapping[str, int]) -> None:
        """Say what is added to the configured priority, all of it: {"service dns": -60}; that of interfaces is ours."""
        own = {key: value for key, value in self._parts[name].items() if key.startswith("interface ")}
        self._parts[name] = own | dict(parts)
        self._tell_parts(name)

    def set_fault(self, name: str, cause: str, *, failed: bool) -> None:
        """Say whether something fails that the router cannot do without, as "service dns"."""
        for router, _ in self._of(name):
            self._feed(router, Fault(cause) if failed else FaultCleared(cause))

    def first_verdicts(self, name: str) -> None:
        """Say that every tracked service has its first verdict (V24)."""
        for router, _ in self._of(name):
            self._feed(router, FirstVerdicts())

    def standby(self, name: str, *, reason: str = "standby", if_taken: bool = False) -> None:
        """Hand the addresses of this router (and its sync group) over, and do not take them until `resume`."""
        for router, _ in self._of(name):
            self._feed(router, Standby(reason, if_taken))

    async def handed_over(self, names: Collection[str]) -> list[str]:
        """Wait until none of these is active and their addresses are gone; those that are active still, as nobody took over."""
        longest = max((one.advert_interval for one in self._settings.routers), default=0.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest + _OFFER):
                while any(self.is_active(name) for name in names):
                    self._moved.clear()
                    await self._moved.wait()
        for name in names:
            for _, instance in self._of(name):
                await instance.settle()
        return [name for name in names if self.is_active(name)]

    def resume(self, name: str) -> None:
        """Take part again."""
        for router, _ in self._of(name):
            self._feed(router, Resume())

    def master_lost(self, reason: str) -> None:
        """Leave at once and be backup at priority 1: nobody serves behind the addresses (V18)."""
        for group in self._groups:
            self._hand_all(group, MasterLost(reason))

    def master_back(self) -> None:
        """Be a full member again."""
        for group in self._groups:
            self._hand_all(group, MasterBack())

    def is_active(self, name: str) -> bool:
        """Whether the addresses of this router are here."""
        return self._states[name] == "active"

    def counters(self) -> dict[str, dict[str, int]]:
        """Return what was counted, by stable names: of each router ("outside/4"), each socket ("eth0/4") and "kernel"."""
        found = {f"{one.settings.name}/{one.family}": dict(one.counters) for one in self._instances.values()}
        sockets = {f"{name}/{family}": dict(counted) for (name, family), counted in self._port_counters.items()}
        return (
            found
            | {name: counted for name, counted in sockets.items() if counted}
            | {"kernel": dict(self._kernel.counters)}
        )

    def status(self) -> list[dict[str, Any]]:
        """Return each router as `status` shows it; times are monotonic seconds."""
        names = [one.name for one in self._settings.routers]
        return [status_of(list(self._of(one)), self._states[one], self._last.get(one)) for one in names]

    # Routers and their groups

    def _together(self) -> list[list[str]]:
        """Names that move together: each sync group (those that share a name are one), each other name alone."""
        sets: list[set[str]] = [{one.name} for one in self._settings.routers]
        for names in self._settings.sync_groups.values():
            touched = [one for one in sets if one & set(names)]
            sets = [one for one in sets if one not in touched] + [set().union(*touched)]
        return [sorted(one) for one in sorted(sets, key=sorted) if one]

    def _build(self, names: list[str], now: float) -> None:
        made: list[Instance] = []
        for name in names:
            handover = self._adopted.get(name)
            sent = max(self._numbers.sent, handover.sent if handover else 0)
            made.extend([self._instance(name, family, sent) for family in self._setting[name].families])
        group = Group([one.config for one in made], now)
        self._groups.append(group)
        for router, instance in zip(group.routers, made, strict=True):
            self._instances[router] = instance
            self._group_of[router] = group
            self._router_of[instance] = router
            self._named[instance.settings.name].append((router, instance))
            interface = instance.settings.interface
            self._on_interface.setdefault(interface, []).append((router, instance))
            self._of_wire[interface, instance.family, instance.settings.vrid] = instance
            for address in instance.config.addresses:
                self._of_address.setdefault(str(address), []).append(instance)

    def _instance(self, name: str, family: int, sent: int) -> Instance:
        settings = self._setting[name]

        def feed(event: Event) -> None:
            self._feed(self._router_of[made], event)

        made = Instance(
            settings,
            family,
            self._hands,
            feed=feed,
            tell=lambda words: self._on_tell(name, words),
            sent=sent,
            seen=self._numbers.seen.get(_place(settings, family)),
            allowed=lambda: self._claims.held((settings.interface, settings.vrid, family)),
            ready=lambda: self._open(made),
        )
        return made

    def _of(self, name: str) -> Iterator[tuple[Router, Instance]]:
        return iter(list(self._named[name]))

    # Other processes of this host

    def _claim(self) -> None:
        try:
            self._claims.take()
        except OSError as error:
            self._on_tell("process", f"another process of this host with our routers would not be noticed: {error}")

    @property
    def taken(self) -> bool:
        """Whether other processes of this host have become all of our routers."""
        return self._claims.all_lost

    def _claimed(self, key: Key) -> Iterator[tuple[Router, Instance]]:
        """Yield the router of a claim; none if it is not made yet."""
        interface, vrid, family = key
        instance = self._of_wire.get((interface, family, vrid))
        if instance is not None:
            yield self._router_of[instance], instance

    def _lost(self, key: Key, pid: int) -> None:
        for router, instance in self._claimed(key):
            instance.abandon()
            self._feed(router, Fault(_taken_by(pid)))
        if self._claims.all_lost:
            self._on_taken()

    def _regained(self, key: Key) -> None:
        for router, _ in self._claimed(key):
            for cause in [one for one in router.faults if one.startswith(_TAKEN)]:
                self._feed(router, FaultCleared(cause))

    def _took(self, keys: Collection[Key], pid: int) -> None:
        for key in sorted(keys):
            for _, instance in self._claimed(key):
                text = f"IPv{instance.family}: taken over from process {pid} of this host, which does nothing for it any more"
                self._on_tell(instance.settings.name, text)

    # Events in, commands out

    def _feed(self, router: Router, event: Event) -> None:
        now = time.monotonic()
        if isinstance(event, LeaseRefreshed):
            self._refreshed[self._instances[router].settings.name] = now
        group = self._group_of[router]
        self._perform(group.handle(router, event, now), group)

    def _hand_all(self, group: Group, event: Event) -> None:
        self._perform(group.handle_all(event, time.monotonic()), group)

    def _perform(self, commands: tuple[tuple[Router, Command], ...], group: Group) -> None:
        moved: dict[str, None] = {}
        for router, command in commands:
            instance = self._instances[router]
            if isinstance(command, Notify):
                moved[instance.settings.name] = None
                self._moved.set()
            else:
                port = self._ports.get((instance.settings.interface, instance.family))
                # A command that fails must not cost those after it: the addresses may be to be removed.
                self._guard(instance.perform, command, port)
        self._deadlines.set(group, group.deadline)
        for name in moved:
            self._settle(name)
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
            for port in {self._port_of(router): None for group in groups for router in group.routers}:
                if port is not None:
                    port.read()  # what waits there came before the deadline
            now = time.monotonic()
            for group in groups:
                self._guard(self._perform_tick, group, now)
                self._deadlines.set(group, group.deadline)
        finally:
            self._ticking = False
        self._arm(now + _BREATH)  # should a deadline not move on, which would be a bug, others live on

    def _port_of(self, router: Router) -> Port | None:
        instance = self._instances[router]
        return self._ports.get((instance.settings.interface, instance.family))

    def _perform_tick(self, group: Group, now: float) -> None:
        self._perform(group.tick(now), group)

    def _settle(self, name: str) -> None:
        """Tell of a move of both IP versions of a name, once both have made it."""
        state = state_of(router for router, _ in self._of(name))
        # One that only follows another has the second-hand reason.
        there = [router for router, _ in self._of(name) if router.state == state]
        reason = min(there, key=lambda router: self._group_of[router].follows(router)).reason
        previous = self._states[name]
        if state == previous:
            return
        self._states[name] = state
        priority = min(router.effective_priority for router, _ in self._of(name))
        self._last[name] = {"at": time.monotonic(), "from": previous, "to": state, "reason": reason}
        self._guard(self._on_state, Moved(name, state, previous, reason, priority))
        if not all(self._claims.held(_claim_of(one)) for _, one in self._of(name)):
            return  # the scripts are the other process's to run
        for notifier in self._notifiers:
            notifier.tell("INSTANCE", name, state, priority)
        for group, names in self._settings.sync_groups.items():
            if name not in names or len({self._states[one] for one in names}) > 1:
                continue
            if self._group_states.get(group) != state:
                self._group_states[group] = state
                for notifier in self._notifiers:
                    notifier.tell("GROUP", group, state, 0)

    def _guard(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception:
            _log.exception("%s failed", getattr(call, "__qualname__", call))

    def _tell_parts(self, name: str) -> None:
        parts = tuple(sorted(self._parts[name].items()))
        for router, _ in self._of(name):
            self._feed(router, PriorityChanged(parts))

    # Packets, interfaces, addresses

    def _open(self, instance: Instance, *, anew: bool = False) -> bool:
        """Open the socket for an instance's interface, if it is not; returns False if that cannot be, which is a fault.

        `anew` whatever there is, as the interface may be another one by now.
        """
        key = (instance.settings.interface, instance.family)
        link = self._kernel.link(instance.settings.interface)
        old = self._ports.get(key)
        if old is not None and link is not None and old.index == link.index and not anew:
            return True
        if old is not None:
            self._ports.pop(key).close()
        if link is None:
            return True  # a fault of its own
        counters = self._port_counters.setdefault(key, Counter())
        try:
            self._ports[key] = Port(*key, lambda packet: self._received(key, packet), counters)
        except OSError as error:
            if isinstance(error, PermissionError):
                raise
            counters["open_failed"] += 1
            _log.warning("no socket on %s: %s", link.name, error)
            instance.mute(f"no socket to send adverts by: {error.strerror}")
            return False
        return True

    def _received(self, key: tuple[str, int], packet: Packet) -> None:
        vrid = packet.data[1] if len(packet.data) > 1 else None
        instance = None if vrid is None else self._of_wire.get((*key, vrid))
        if instance is not None:
            instance.receive(packet)
        else:
            self._port_counters[key]["truncated" if vrid is None else "vrid"] += 1

    def _changed(self, change: Change) -> None:
        if isinstance(change, AddressChanged):
            for instance in self._of_address.get(change.address.address, ()):
                instance.lease.changed(change, time.monotonic())
            link = self._kernel.link_at(change.address.index)
            if link is not None:
                self._look_at_sources(link.name)
            return
        event = LinkUp() if change.link and change.link.up else LinkDown()
        for router, instance in self._on_interface.get(change.name, ()):
            self._open(instance)
            self._feed(router, event)
        self._look_at_sources(change.name)
        for name in self._trackers.get(change.name, ()):
            self._follow(name, change.name)

    def _changes_lost(self) -> None:
        """Make all sockets anew: an interface may have been replaced by another with its name and number."""
        for key in list(self._ports):
            instance = next((one for _, one in self._on_interface[key[0]] if one.family == key[1]), None)
            if instance is not None:
                self._open(instance, anew=True)

    def _look_at_sources(self, interface: str) -> None:
        """Look soon whether adverts have to leave from another address; many changes are one reason to look."""
        if interface in self._on_interface:
            if not self._moved_sources:
                self._loop.call_soon(self._follow_sources)
            self._moved_sources.add(interface)

    def _follow_sources(self) -> None:
        interfaces, self._moved_sources = self._moved_sources, set()
        reopened = set()
        for interface in interfaces:
            for router, instance in self._on_interface[interface]:
                source, before = instance.present_source(), instance.source
                if source == before:
                    continue
                if before is None and (interface, instance.family) not in reopened:
                    # With its last address an interface may have lost the IP version, and its groups with that.
                    reopened.add((interface, instance.family))
                    self._open(instance, anew=True)
                instance.source = source
                self._feed(router, SourceChanged(source))

    def _follow(self, name: str, interface: str) -> None:
        """Let a router know how the interface is that it tracks."""
        link = self._kernel.link(interface)
        up = link is not None and link.up
        if self._tracked.get((name, interface)) == up:
            return
        self._tracked[name, interface] = up
        penalty = next(one.penalty for one in self._setting[name].track if one.interface == interface)
        if penalty is None:
            self.set_fault(name, f"interface {interface}", failed=not up)
            return
        self._parts[name].pop(f"interface {interface}", None)
        if not up:
            self._parts[name][f"interface {interface}"] = -penalty
        self._tell_parts(name)


def _place(settings: RouterSettings, family: int) -> str:
    """Return what a router is on the wire, whatever its name."""
    return f"{settings.interface}/{settings.vrid}/{family}"


def _claim_of(instance: Instance) -> Key:
    return instance.settings.interface, instance.settings.vrid, instance.family


def _taken_by(pid: int) -> str:
    """Return the fault of a router that another process has claimed; 0 is one that we cannot see."""
    return f"{_TAKEN} process {pid} of this host" if pid else f"{_TAKEN} another process of this host"
