"""This host's part in the pair: its virtual routers, how able it is to serve, and what an operator asked of it.

A daemon without [vrrp.NAME] has one of these as well, with nothing in it.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from proxy.config.model import Config
from proxy.control.server import Request
from proxy.control.wire import BAD_REQUEST, ControlError
from proxy.pair.fitness import Known, fitness
from proxy.pair.router_settings import longest_interval
from proxy.pair.routers import HANDOVER, Routers, Tell
from proxy.processes.child import Child, Identity
from proxy.processes.messages import vrrp as vrrp_messages
from proxy.records import state_directory

STANDBY = "standby.json"
"""In the state directory: the names of the routers that are not to take part."""
FIRST_WORKER = 3.0  # s that this host may take to serve before it counts as one that cannot
DRAIN_LOOK = 0.1  # s
NO_WORKER = "no worker is alive"


class Redundancy:
    """The virtual routers of a daemon, fed and asked.

    `tell(name, words, level, fields)` records what happens; `opened(names)` says how many connections and sessions there are through the addresses of these routers.
    Raises routing.KeyFileError, and statedir.StateError for a standby that cannot be read: it must not be forgotten.
    """

    def __init__(
        self, config: Config, identity: Identity, tell: Tell, opened: Callable[[Collection[str]], int]
    ) -> None:
        self._config = config
        self._told = tell
        self._opened = opened
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._served = False
        self._moving: set[asyncio.Task[list[str]]] = set()
        self._directory = Path(config.node.state_dir)
        self._groups = [set(group.vrrp) for group in config.sync_groups]
        self._routers: Routers | None = None
        if config.vrrp:
            # Whom it runs as: the master.  Its capabilities are less, and scripts may want to be root, as keepalived's.
            itself = Identity(None, None, identity.level, identity.format)
            self._routers = Routers(config, itself, self._told, self._remembered())

    @property
    def children(self) -> list[Child]:
        """The vrrp process and the one that stands by."""
        return self._routers.children if self._routers is not None else []

    def start(self) -> None:
        """Begin to take part."""
        if self._routers is not None:
            for name in sorted(self._routers.in_standby):
                self._told(name, "in standby since before the start: `steelyard resume` ends that", "warning", {})
            self._routers.start()

    def look(self, now: float, services: Known, probes: Known, *, serving: bool) -> None:
        """Look after the vrrp process, and let it know how able this host is; `serving` says that a worker lives."""
        if self._routers is None:
            return
        self._served = self._served or serving or now - self._began > FIRST_WORKER
        lost = NO_WORKER if self._served and not serving else ""
        able = fitness(self._config.vrrp, services, probes, lost)
        self._routers.fit(able if self._served else vrrp_messages.Fitness(able.parts, able.faults, [], ""))
        self._routers.look(now)

    async def rows(self) -> list[dict[str, Any]]:
        """Return the routers as the status has them."""
        return await self._routers.rows() if self._routers is not None else []

    async def leave(self, *, hand_over: bool) -> None:
        """Leave the pair; a live peer takes over first with `hand_over`."""
        if self._routers is not None:
            await self._routers.leave(hand_over=hand_over)

    # -- commands

    async def standby(self, request: Request) -> AsyncIterator[Mapping[str, Any]]:
        """Answer `standby`: hand over the addresses of `vrrp` (all by default), after at most `drain` seconds."""
        routers, names = self._asked(request)
        drain = request.arguments.get("drain", 0.0)
        if isinstance(drain, bool) or not isinstance(drain, int | float) or not 0 <= drain < math.inf:
            raise ControlError("drain is a number of seconds", BAD_REQUEST)
        patience = longest_interval(self._config) + HANDOVER
        yield {"timeout": drain + patience, "more": True}
        news = names - set(routers.in_standby)
        if news:
            self._told(", ".join(sorted(news)), f"standby asked for by {_who(request)}", "info", {})
            await self._drained(names, drain)
        # From here on it is done and remembered, whether or not who asked for it still listens.
        left = await asyncio.shield(self._moved_away(routers, names, f"standby asked for by {_who(request)}"))
        if left:
            raise ControlError(f"nobody else has taken the addresses of {', '.join(left)}: they stay here")
        yield {**self._answer(routers, names), "changed": bool(news), "more": False}

    def _moved_away(self, routers: Routers, names: Collection[str], reason: str) -> asyncio.Task[list[str]]:
        """Hand over, and remember it; those whose addresses nobody else has taken."""

        async def move() -> list[str]:
            left = await routers.standby(names, reason)
            self._remember(routers)
            return left

        task = self._loop.create_task(move())
        self._moving.add(task)
        task.add_done_callback(self._moving.discard)
        return task

    async def resume(self, request: Request) -> Mapping[str, Any]:
        """Answer `resume`: let the routers of `vrrp` (all by default) take their addresses again."""
        routers, names = self._asked(request)
        changed = bool(names & set(routers.in_standby))
        if changed:
            self._told(", ".join(sorted(names)), f"resume asked for by {_who(request)}", "info", {})
        routers.resume(names)
        self._remember(routers)
        return {**self._answer(routers, names), "changed": changed}

    def is_active(self, request: Request) -> Mapping[str, Any]:
        """Answer `is-active`: whether the addresses of `vrrp` (all by default) are here."""
        routers, _ = self._asked(request)
        wanted = request.arguments.get("vrrp")
        names = {wanted} if isinstance(wanted, str) else set(routers.names)
        answer = self._answer(routers, names)
        return {**answer, "active": all(one["state"] == "active" for one in answer["vrrp"])}

    def _asked(self, request: Request) -> tuple[Routers, set[str]]:
        """Return the routers, and the names that a command is about: those of a sync group move together."""
        if self._routers is None:
            raise ControlError("this daemon has no [vrrp.NAME]: there is no address to move", BAD_REQUEST)
        wanted = request.arguments.get("vrrp")
        known = self._routers.names
        if wanted is None:
            return self._routers, set(known)
        if wanted not in known:
            raise ControlError(f"there is no [vrrp.{str(wanted)[:60]}]: only {', '.join(known[:10])}", BAD_REQUEST)
        return self._routers, {wanted}.union(*(group for group in self._groups if wanted in group))

    def _answer(self, routers: Routers, names: Collection[str]) -> dict[str, Any]:
        return {
            "vrrp": [
                {"name": name, "state": state, "standby": name in routers.in_standby}
                for name, state in routers.states.items()
                if name in names
            ]
        }

    async def _drained(self, names: Collection[str], patience: float) -> None:
        """Wait until nothing is open through the addresses, at most `patience` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._opened(names):  # noqa: ASYNC110 - counters in shared memory tell nobody of a change
                    await asyncio.sleep(DRAIN_LOOK)

    # -- what is remembered

    def _remembered(self) -> list[str]:
        names = state_directory.load(self._directory, STANDBY)
        known = {router.name for router in self._config.vrrp}
        return [name for name in names if name in known] if isinstance(names, list) else []

    def _remember(self, routers: Routers) -> None:
        try:
            state_directory.save(self._directory, STANDBY, sorted(routers.in_standby))
        except state_directory.StateError as error:
            self._told("standby", f"a restart will not know of it: {error}", "error", {})


def _who(request: Request) -> str:
    return f"uid {request.uid} (pid {request.pid})"
