"""This host's part in the pair: its virtual routers, its fitness, and the standby that operators request.

A daemon without [vrrp.NAME] has an empty one.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from proxy.config.model import Config
from proxy.pair import router_settings
from proxy.pair.fitness import Known, fitness
from proxy.pair.router_settings import Prepared, longest_interval
from proxy.pair.routers import HANDOVER, Inherited, Routers, Tell
from proxy.processes.child import Child, Identity
from proxy.processes.messages import common as messages
from proxy.processes.messages import vrrp as vrrp_messages
from proxy.records.document import PATIENCE, Document, StateError
from proxy.status.schema import RouterStatus

STANDBY = "standby.json"
"""The file in the state directory with the names of the routers in standby."""
FIRST_WORKER = 3.0  # s after the start until a host without a ready worker counts as unable to serve
DRAIN_LOOK = 0.1  # s
NO_WORKER = "no worker is alive"


class Redundancy:
    """The virtual routers of a daemon.

    `document`, already loaded, has the names of the routers that are in standby; `tell(name, words, level, fields)`
    records what happens; `opened(names)` returns how many connections and sessions are open through the addresses of
    these routers.  `inherited` is the `state()` of an earlier version of this daemon, whose routers it takes up where that
    left them.  Raises router_settings.RouterError.
    """

    def __init__(
        self,
        config: Config,
        identity: Identity,
        document: Document,
        tell: Tell,
        opened: Callable[[Collection[str]], int],
        inherited: Mapping[str, Any] | None = None,
    ) -> None:
        self._config = config
        self._identity = identity
        self._known: tuple[Known, Known, bool] = ({}, {}, False)  # services, probes, and whether a worker serves
        self._inherited = inherited
        self._told = tell
        self._opened = opened
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._served = False
        self._moving: set[asyncio.Task[list[str]]] = set()
        self._document = document
        self._groups = [set(group.vrrp) for group in config.sync_groups]
        self._taken_up = False
        self._yielded: set[str] = set()  # routers whose addresses another host has because this daemon stops
        self._leaving: dict[asyncio.Task[None], Routers] = {}
        self._handing: set[asyncio.Task[None]] = set()
        self._saving: set[asyncio.Task[None]] = set()
        self._routers: Routers | None = None
        if config.vrrp:
            rows = inherited.get("routers", ()) if inherited is not None else ()
            self._routers = self._made(router_settings.prepare(config), self._remembered(), rows)

    def _made(self, prepared: Prepared, standby: Collection[str], inherited: Collection[Inherited] = ()) -> Routers:
        # The master's user, with fewer capabilities: notify scripts may need root, as with keepalived.
        itself = Identity(None, None, self._identity.level, self._identity.format)
        return Routers(prepared, itself, self._told, standby, inherited)

    @property
    def children(self) -> list[Child]:
        """The vrrp process and the one that stands by, and those that leave."""
        return [child for one in self._all for child in one.children]

    @property
    def _all(self) -> list[Routers]:
        return [*([self._routers] if self._routers is not None else []), *self._leaving.values()]

    def start(self) -> None:
        """Start the vrrp process, which waits for `take_up`."""
        if self._routers is not None:
            self._routers.start()

    @property
    def ready(self) -> bool:
        """Whether `take_up` takes effect at once."""
        return self._routers is None or self._routers.ready

    def take_up(self) -> None:
        """Have the vrrp process claim the routers, and adopt the addresses of those that are inherited."""
        self._taken_up = True
        if self._routers is not None:
            if self._inherited is None:
                for name in sorted(self._routers.in_standby):
                    self._told(name, "still in standby after the restart: `steelyard resume` ends it", "warning", {})
            self._routers.take_up()

    def state(self) -> dict[str, Any]:
        """Return what a later version of this daemon must know to go on in place of this one, for JSON."""
        rows = self._routers.state(besides=self._yielded) if self._routers is not None else []
        return {"routers": rows}

    def abandon(self) -> None:
        """Let go of the routers without a word on the wire: a successor on this host has them."""
        for one in self._all:
            one.abandon()

    def recover(self) -> None:
        """Have the routers again after `abandon`: the successor has failed."""
        for one in self._all:
            one.recover()

    def inherit(self, state: Mapping[str, Any]) -> None:
        """Take over the routers of an earlier version of this daemon as its newest `state()` has them; before `take_up`."""
        if self._routers is not None:
            self._routers.inherit(state["routers"])

    async def yield_addresses(self, reason: str) -> bool:
        """Hand all addresses over to other hosts, for a stop; returns False if one stays here, as no other host takes it."""
        if self._routers is None:
            return False
        names = set(self._routers.names) - set(self._routers.in_standby)
        left = await self._routers.standby(names, reason)
        self._yielded = names - set(left)
        return not left

    # -- a change of the configuration

    def prepare(self, config: Config) -> Prepared:
        """Do all of a change that can fail, without any effect; it may be called in a thread.

        Raises router_settings.RouterError: a key file cannot be used, or a router has settings that no advert can carry.
        """
        return router_settings.prepare(config)

    def commit(self, prepared: Prepared) -> None:
        """Have the routers of another configuration; those that are equal are not touched."""
        self._config = prepared.config
        self._groups = [set(group.vrrp) for group in prepared.config.sync_groups]
        if self._routers is None and prepared.config.vrrp:
            self._routers = self._made(prepared, ())
            self._routers.start()
            if self._taken_up:
                self._routers.take_up()
        elif self._routers is not None and prepared.config.vrrp:
            able = self._fitness()
            self._routers.reroute(prepared, able.parts)
            self._routers.fit(able)
        elif self._routers is not None:
            self._send_away(self._routers)
            self._routers = None
        if (self._document.content or None) != self._standby_now():
            task = self._loop.create_task(self._remember_again())
            self._saving.add(task)
            task.add_done_callback(self._saving.discard)

    async def settled(self) -> list[str]:
        """Wait, for a bounded time, until `commit` is in effect; returns what could not be done, in words."""
        if self._handing:
            await asyncio.wait(self._handing)
        return await self._routers.rerouted() if self._routers is not None else []

    def _send_away(self, routers: Routers) -> None:
        handing = self._loop.create_task(routers.leave(hand_over=True))
        self._handing.add(handing)
        handing.add_done_callback(self._handing.discard)

        async def end() -> None:
            await asyncio.wait([handing])
            await routers.finish()

        task = self._loop.create_task(end())
        self._leaving[task] = routers
        task.add_done_callback(self._leaving.pop)

    def _standby_now(self) -> list[str] | None:
        """Return what is to be saved."""
        return sorted(self._routers.in_standby) or None if self._routers is not None else None

    async def _remember_again(self) -> None:
        """Save which of the present routers are in standby; an event tells if that fails."""
        with contextlib.suppress(StateError):
            await self._remember(lambda: self._standby_now() or ())

    def look(self, now: float, services: Known, probes: Known, *, serving: bool) -> None:
        """Supervise the vrrp process, and send it this host's fitness; `serving` says that a worker lives."""
        self._known = services, probes, serving
        if self._routers is None:
            return
        self._served = self._served or serving or now - self._began > FIRST_WORKER
        self._routers.fit(self._fitness())
        self._routers.look(now)

    def _fitness(self) -> vrrp_messages.Fitness:
        services, probes, serving = self._known
        lost = NO_WORKER if self._served and not serving else ""
        able = fitness(self._config.vrrp, services, probes, lost)
        return able if self._served else vrrp_messages.Fitness(able.parts, able.faults, [], "")

    def log(self, level: messages.Level) -> None:
        """Have the vrrp process log in this way."""
        self._identity = replace(self._identity, level=level.level, format=level.format)
        for one in self._all:
            one.log(level)

    async def rows(self) -> list[RouterStatus]:
        """Return the routers' rows of the status."""
        return await self._routers.rows() if self._routers is not None else []

    @property
    def notified(self) -> Mapping[str, Mapping[str, int]]:
        """The counters of each notification of routers by name, as of the last `rows`."""
        return self._routers.notified if self._routers is not None else {}

    async def leave(self, *, hand_over: bool) -> None:
        """Leave the pair; with `hand_over` a live peer takes over first."""
        await asyncio.gather(*(one.leave(hand_over=hand_over) for one in self._all))

    async def finish(self) -> None:
        """Wait until the notify scripts of the end are done."""
        await asyncio.gather(*(one.finish() for one in self._all))

    def hurry(self) -> None:
        """Let `leave` or `finish` end at once."""
        for one in self._all:
            one.hurry()

    # -- what operators ask for

    @property
    def routers(self) -> Routers | None:
        """The routers; None for a daemon without [vrrp.NAME]."""
        return self._routers

    @property
    def patience(self) -> float:
        """Seconds that a hand-over may take, with the saves before and after it."""
        return longest_interval(self._config) + HANDOVER + 2 * PATIENCE

    def moving_with(self, name: str) -> set[str]:
        """Return the names of the routers that move with this one: its own and those of its sync group."""
        return {name}.union(*(group for group in self._groups if name in group))

    async def standby(self, names: Collection[str], drain: float, who: str) -> tuple[bool, list[str]]:
        """Hand the addresses of these routers over, after at most `drain` seconds in which connections end.

        Returns whether anything has changed, and the routers whose addresses no other host has taken: those stay here.
        Raises StateError, with nothing changed, if it cannot be saved.
        """
        if self._routers is None:
            return False, []
        news = set(names) - set(self._routers.in_standby)
        if news:
            self._told(", ".join(sorted(news)), f"standby requested by {who}", "info", {})
            await self._drained(names, drain)
        # From here on it is done and saved, even if the client that requested it has left.
        left = await asyncio.shield(self._moved_away(self._routers, names, f"standby requested by {who}"))
        return bool(news), left

    def _moved_away(self, routers: Routers, names: Collection[str], reason: str) -> asyncio.Task[list[str]]:
        """Save the standby, then hand over; return the routers whose addresses no other host has taken."""

        async def move() -> list[str]:
            await self._remember(lambda: {*routers.in_standby, *names}, lambda: routers.mark_standby(names, reason))
            left = await routers.standby(names, reason)
            if left:
                with contextlib.suppress(StateError):  # an event was recorded: after a restart they would be in standby
                    await self._remember(lambda: routers.in_standby)
            return left

        task = self._loop.create_task(move())
        self._moving.add(task)
        task.add_done_callback(self._moved)
        return task

    def _moved(self, task: asyncio.Task[list[str]]) -> None:
        self._moving.discard(task)
        if not task.cancelled():
            task.exception()  # an event was recorded, and the caller that waits gets it

    async def resume(self, names: Collection[str], who: str) -> bool:
        """Let these routers take their addresses again; returns False if none was in standby.

        Raises StateError, with nothing changed, where it cannot be saved.
        """
        routers = self._routers
        if routers is None:
            return False
        changed = bool(set(names) & set(routers.in_standby))
        if changed:
            self._told(", ".join(sorted(names)), f"resume requested by {who}", "info", {})
            await self._remember(lambda: set(routers.in_standby) - set(names), lambda: routers.resume(names))
        return changed

    async def _drained(self, names: Collection[str], patience: float) -> None:
        """Wait until nothing is open through the addresses, at most `patience` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._opened(names):  # noqa: ASYNC110 - counters in shared memory announce no change
                    await asyncio.sleep(DRAIN_LOOK)

    # -- the saved standby

    def _remembered(self) -> list[str]:
        names = self._document.content
        known = {router.name for router in self._config.vrrp}
        return [name for name in names if name in known] if isinstance(names, list) else []

    async def _remember(
        self, standby: Callable[[], Collection[str]], put_into_force: Callable[[], None] = lambda: None
    ) -> None:
        """Save the standby, then put it into force; records an event and raises StateError if it cannot be saved."""
        try:
            await self._document.commit(lambda: sorted(standby()), put_into_force)
        except StateError as error:
            self._told("standby", f"cannot be saved: {error}", "error", {})
            raise
