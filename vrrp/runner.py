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
    Tick,
)
from vrrp.group import Group
from vrrp.instance import Instance
from vrrp.kernel import AddressChanged, Change, Kernel, LinkChanged
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

_log = logging.getLogger("steelyard.vrrp")


class Runner:
    """All routers of this host.  `on_state` is told moves, `on_tell(name, words)` everything else for people to read.

    `check_program` says which scripts are safe to run; see `Notifier`.  `store` keeps the numbers of signed adverts.
    Methods raise KeyError for unknown names.
    """

    def __init__(
        self,
        settings: Settings,
        on_state: Callable[[Moved], None],
        on_tell: Callable[[str, str], None],
        check_program: Callable[[str, int], str] | None = None,
        store: Store | None = None,
    ) -> None:
        self._store = store
        self._keeper: Keeper | None = None
        self._numbers = Numbers()
        self._settings = settings
        self._on_state = on_state
        self._on_tell = on_tell
        self._check = check_program
        self._kernel = Kernel(self._changed)
        self._groups: list[Group] = []
        self._instances: dict[Router, Instance] = {}
        self._group_of: dict[Router, Group] = {}
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

    def handover(self) -> dict[str, Handover]:
        """Return what `adopt` of the next process wants, by name."""
        return {
            name: Handover(
                "active" if self._states[name] == "active" else "backup",
                self._refreshed.get(name, 0.0),
                max(instance.sent for _, instance in self._of(name)),
            )
            for name in self._states
        }

    async def start(self) -> None:
        """Begin; OSError without the capabilities."""
        await self._kernel.open()
        if self._store is not None and any(one.auth.mode != "off" for one in self._settings.routers):
            self._keeper = Keeper(self._store, lambda words: self._on_tell("auth", words))
            self._numbers = await self._keeper.load(_FILE)
        self._notifiers = [
            Notifier(one, lambda words: self._on_tell("notify", words), self._check) for one in self._settings.notify
        ]
        now = time.monotonic()
        for members in self._together():
            self._build(members, now)
        for router, instance in self._instances.items():
            self._open(instance)
            link = self._kernel.link(instance.settings.interface)
            if link is None or not link.up:
                self._feed(router, LinkDown())
        for setting in self._settings.routers:
            for track in setting.track:
                self._follow(setting.name, track.interface)
        for group in self._groups:
            self._perform(group.handle_all(self._startup(group), time.monotonic()))
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
            self._perform(group.handle_all(Shutdown(at_once=not hand_over), time.monotonic()))
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
            self._perform(group.handle_all(Shutdown(at_once=True), time.monotonic()))
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
            self._perform(group.handle_all(MasterLost(reason), time.monotonic()))

    def master_back(self) -> None:
        """Be a full member again."""
        for group in self._groups:
            self._perform(group.handle_all(MasterBack(), time.monotonic()))

    def is_active(self, name: str) -> bool:
        """Whether the addresses of this router are here."""
        return self._states[name] == "active"

    def counters(self) -> dict[str, dict[str, int]]:
        """Return what was counted, by stable names: of each router, "outside/4", and of each socket, "eth0/4"."""
        found = {f"{one.settings.name}/{one.family}": dict(one.counters) for one in self._instances.values()}
        sockets = {f"{name}/{family}": dict(counted) for (name, family), counted in self._port_counters.items()}
        return found | {name: counted for name, counted in sockets.items() if counted}

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
        settings = {one.name: one for one in self._settings.routers}
        made: list[Instance] = []
        for name in names:
            handover = self._adopted.get(name)
            sent = max(self._numbers.sent, handover.sent if handover else 0)
            families = [family for family in (4, 6) if settings[name].of_family(family)]
            made.extend([self._instance(name, family, sent) for family in families])
        group = Group([one.config for one in made], now)
        self._groups.append(group)
        for router, instance in zip(group.routers, made, strict=True):
            self._instances[router] = instance
            self._group_of[router] = group

    def _instance(self, name: str, family: int, sent: int) -> Instance:
        settings = next(one for one in self._settings.routers if one.name == name)
        made: Instance | None = None

        def feed(event: Event) -> None:
            self._feed(next(router for router, one in self._instances.items() if one is made), event)

        made = Instance(
            settings, family, self._kernel, feed=feed, tell=lambda words: self._on_tell(name, words),
            sent=sent, seen=self._numbers.seen.get(_place(settings, family)),
        )  # fmt: skip
        return made

    def _of(self, name: str) -> Iterator[tuple[Router, Instance]]:
        if name not in self._parts:
            raise KeyError(name)
        return iter([(router, one) for router, one in self._instances.items() if one.settings.name == name])

    # Events in, commands out

    def _feed(self, router: Router, event: Event) -> None:
        now = time.monotonic()
        if isinstance(event, LeaseRefreshed):
            self._refreshed[self._instances[router].settings.name] = now
        self._perform(self._group_of[router].handle(router, event, now))

    def _perform(self, commands: tuple[tuple[Router, Command], ...]) -> None:
        reasons: dict[str, str] = {}
        for router, command in commands:
            instance = self._instances[router]
            if isinstance(command, Notify):
                reasons[instance.settings.name] = command.reason
                self._moved.set()
            else:
                port = self._ports.get((instance.settings.interface, instance.family))
                # A command that fails must not cost those after it: the addresses may be to be removed.
                self._guard(instance.perform, command, port)
        for name, reason in reasons.items():
            self._settle(name, reason)
        self._arm()

    def _arm(self, earliest: float = 0.0) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = min((one.deadline for one in self._groups if one.deadline is not None), default=None)
        if deadline is not None:
            self._timer = self._loop.call_at(max(deadline, earliest), self._tick)

    def _tick(self) -> None:
        for port in list(self._ports.values()):
            port.read()  # what waits there came before the deadline
        now = time.monotonic()
        for group in self._groups:
            if group.deadline is not None and group.deadline <= now:
                self._guard(self._perform_tick, group, now)
        self._arm(now + _BREATH)  # should a deadline not move on, which would be a bug, others live on

    def _perform_tick(self, group: Group, now: float) -> None:
        self._perform(group.handle_all(Tick(), now))

    def _settle(self, name: str, reason: str) -> None:
        """Tell of a move of both IP versions of a name, once both have made it."""
        state = state_of(router for router, _ in self._of(name))
        previous = self._states[name]
        if state == previous:
            return
        self._states[name] = state
        priority = min(router.effective_priority for router, _ in self._of(name))
        self._last[name] = {"at": time.monotonic(), "from": previous, "to": state, "reason": reason}
        self._guard(self._on_state, Moved(name, state, previous, reason, priority))
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

    def _open(self, instance: Instance) -> None:
        key = (instance.settings.interface, instance.family)
        link = self._kernel.link(instance.settings.interface)
        old = self._ports.get(key)
        if old is not None and link is not None and old.index == link.index:
            return
        if old is not None:
            self._ports.pop(key).close()
        if link is None:
            return
        counters = self._port_counters.setdefault(key, Counter())
        try:
            self._ports[key] = Port(*key, lambda packet: self._received(key, packet), counters)
        except OSError as error:
            if isinstance(error, PermissionError):
                raise
            counters["open_failed"] += 1
            _log.warning("no socket on %s: %s", link.name, error)

    def _received(self, key: tuple[str, int], packet: Packet) -> None:
        vrid = packet.data[1] if len(packet.data) > 1 else None
        for instance in self._instances.values():
            if (instance.settings.interface, instance.family, instance.settings.vrid) == (*key, vrid):
                instance.receive(packet)
                return
        self._port_counters[key]["truncated" if vrid is None else "vrid"] += 1

    def _changed(self, change: Change) -> None:
        now = time.monotonic()
        for router, instance in list(self._instances.items()):
            mine = instance.settings.interface
            if isinstance(change, AddressChanged):
                instance.lease.changed(change, now)
            elif change.name == mine:
                self._open(instance)
                self._feed(router, LinkUp() if change.link and change.link.up else LinkDown())
            source = instance.present_source()
            if source != instance.source:
                instance.source = source
                self._feed(router, SourceChanged(source))
        if isinstance(change, LinkChanged):
            for name, interface in list(self._tracked):
                if interface == change.name:
                    self._follow(name, interface)

    def _follow(self, name: str, interface: str) -> None:
        """Let a router know how the interface is that it tracks."""
        link = self._kernel.link(interface)
        up = link is not None and link.up
        if self._tracked.get((name, interface)) == up:
            return
        self._tracked[name, interface] = up
        settings = next(one for one in self._settings.routers if one.name == name)
        penalty = next(one.penalty for one in settings.track if one.interface == interface)
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
