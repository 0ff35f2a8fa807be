"""This host's part in the pair: its virtual routers, its fitness, and the standby that operators request.

A daemon without [vrrp.NAME] has an empty one.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from proxy.config.model import Config
from proxy.pair import router_settings
from proxy.pair.fitness import Known, fitness
from proxy.pair.router_settings import longest_interval
from proxy.pair.routers import HANDOVER, Routers, Tell
from proxy.processes.child import Child, Identity
from proxy.processes.messages import common as messages
from proxy.processes.messages import vrrp as vrrp_messages
from proxy.records.document import PATIENCE, Document, StateError

STANDBY = "standby.json"
"""The file in the state directory with the names of the routers in standby."""
FIRST_WORKER = 3.0  # s after the start until a host without a ready worker counts as unable to serve
DRAIN_LOOK = 0.1  # s
NO_WORKER = "no worker is alive"


@dataclass(frozen=True, slots=True)
class Prepared:
    """Another configuration that the routers could have, with the settings of the vrrp process."""

    config: Config
    settings: dict[str, Any]


class Redundancy:
    """The virtual routers of a daemon.

    `document`, already loaded, has the names of the routers that are in standby; `tell(name, words, level, fields)`
    records what happens; `opened(names)` returns how many connections and sessions are open through the addresses of
    these routers.  Raises router_settings.KeyFileError.
    """

    def __init__(
        self,
        config: Config,
        identity: Identity,
        document: Document,
        tell: Tell,
        opened: Callable[[Collection[str]], int],
    ) -> None:
        self._config = config
        self._told = tell
        self._opened = opened
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._served = False
        self._moving: set[asyncio.Task[list[str]]] = set()
        self._document = document
        self._groups = [set(group.vrrp) for group in config.sync_groups]
        self._routers: Routers | None = None
        if config.vrrp:
            # The master's user, with fewer capabilities: notify scripts may need root, as with keepalived.
            itself = Identity(None, None, identity.level, identity.format)
            self._routers = Routers(config, itself, self._told, self._remembered())

    @property
    def children(self) -> list[Child]:
        """The vrrp process and the one that stands by."""
        return self._routers.children if self._routers is not None else []

    def start(self) -> None:
        """Start the vrrp process."""
        if self._routers is not None:
            for name in sorted(self._routers.in_standby):
                self._told(name, "still in standby after the restart: `steelyard resume` ends it", "warning", {})
            self._routers.start()

    def look(self, now: float, services: Known, probes: Known, *, serving: bool) -> None:
        """Supervise the vrrp process, and send it this host's fitness; `serving` says that a worker lives."""
        if self._routers is None:
            return
        self._served = self._served or serving or now - self._began > FIRST_WORKER
        lost = NO_WORKER if self._served and not serving else ""
        able = fitness(self._config.vrrp, services, probes, lost)
        self._routers.fit(able if self._served else vrrp_messages.Fitness(able.parts, able.faults, [], ""))
        self._routers.look(now)

    def prepare(self, config: Config) -> Prepared:
        """Read what the routers of another configuration need; raises router_settings.KeyFileError.  May run in a thread."""
        return Prepared(config, router_settings.settings(config) if config.vrrp else {})

    def commit(self, prepared: Prepared) -> None:
        """Take another configuration."""
        self._config = prepared.config

    async def settled(self) -> list[str]:
        """Wait until the vrrp process has followed; return in words what it could not do."""
        return []

    def log(self, level: messages.Level) -> None:
        """Have the vrrp process log in this way."""

    async def rows(self) -> list[dict[str, Any]]:
        """Return the routers' rows of the status."""
        return await self._routers.rows() if self._routers is not None else []

    async def leave(self, *, hand_over: bool) -> None:
        """Leave the pair; with `hand_over` a live peer takes over first."""
        if self._routers is not None:
            await self._routers.leave(hand_over=hand_over)

    async def finish(self) -> None:
        """Wait until the notify scripts of the end are done."""
        if self._routers is not None:
            await self._routers.finish()

    def hurry(self) -> None:
        """Let `leave` or `finish` end at once."""
        if self._routers is not None:
            self._routers.hurry()

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
            await self._remember(lambda: {*routers.in_standby, *names}, lambda: routers.mark_standby(names))
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
