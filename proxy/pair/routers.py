"""The vrrp child as the master sees it: what it is told, where the addresses are, how they are handed over.

It may die: its successor is told what it held last and adopts the addresses while their lease runs.  The master never
waits for it but where somebody asked for something, and then for a bounded time.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from proxy.config.model import Config
from proxy.pair import router_rows, router_settings
from proxy.processes.child import Child, Identity
from proxy.processes.keeper import Kept
from proxy.processes.messages import common as messages
from proxy.processes.messages import vrrp as vrrp_messages
from proxy.records.timeline import Level
from vrrp.settings import SCRIPT_TIMEOUT

SILENCE = 1.0  # s without a sign of life after which it is killed: its successor shall be there within the lease
BEAT = 0.25  # s between two signs of life of ours
REPORT_TIMEOUT = 1.0  # s that a status waits for what it has to say
HANDOVER = 1.0  # s beyond an advert interval that a hand-over may take
LEAVE = 6.0  # s beyond an advert interval until the addresses are gone
AT_ONCE = 1.0  # s that an end without a hand-over may take
FINISH = SCRIPT_TIMEOUT + 5.0  # s that the scripts which are told of it may take afterwards

Tell = Callable[[str, str, Level, Mapping[str, Any]], None]


class Routers:
    """The virtual routers of a daemon; `tell(name, words, level, fields)` records what happens to them.

    `standby` are the names of those that are not to take part.  Raises router_settings.KeyFileError.
    """

    def __init__(self, config: Config, identity: Identity, tell: Tell, standby: Collection[str]) -> None:
        self._config = config
        self._settings = router_settings.settings(config)
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._longest = router_settings.longest_interval(config)
        self._handover: dict[str, list[Any]] = {}
        self._standby = set(standby)
        self._fitness = vrrp_messages.Fitness({}, {}, [], "")
        self._states: dict[str, str] = {one.name: "init" for one in config.vrrp}
        self._beaten = 0.0
        self._left = asyncio.Event()
        self._kept = Kept(
            "proxy.vrrpd", identity, silence=SILENCE, on_ready=self._begin, on_message=self._take,
            told=lambda text: tell("vrrp", text, "error", {}),
            afterwards="replaced, the addresses stay for their lease", spare=True,
        )  # fmt: skip
        self.start, self.kill = self._kept.start, self._kept.kill

    @property
    def children(self) -> list[Child]:
        """The process and the one that stands by."""
        return self._kept.children

    @property
    def names(self) -> list[str]:
        """The routers' names, as in the file."""
        return list(self._states)

    @property
    def states(self) -> Mapping[str, str]:
        """Each router's state: init, backup, active or fault."""
        return self._states

    @property
    def in_standby(self) -> Collection[str]:
        """The names of those that were told to stay away."""
        return self._standby

    def look(self, now: float) -> None:
        """Find a process that hangs or is missing, and show it that we live."""
        self._kept.look(now)
        if now - self._beaten >= BEAT:
            self._beaten = now
            self._kept.send(messages.Beat())

    def fit(self, fitness: vrrp_messages.Fitness) -> None:
        """Say how able this host is."""
        if fitness != self._fitness:
            self._fitness = fitness
            self._kept.send(fitness)

    async def standby(self, names: Collection[str], reason: str) -> list[str]:
        """Hand the addresses of these routers over and keep them away; returns whose addresses nobody else has taken.

        Those stay active, and are not in standby.
        """
        self.mark_standby(names)
        answer = await self._kept.ask(
            lambda number: vrrp_messages.Standby(number, sorted(names), reason), self._longest + HANDOVER
        )
        if isinstance(answer, vrrp_messages.StoodBy):
            left = answer.left
        else:  # it died, and its successor starts in standby
            left = sorted(name for name in names if self._states[name] == "active")
        self._standby -= set(left)
        return left

    def mark_standby(self, names: Collection[str]) -> None:
        """Take note of which routers are to be in standby: a process that starts now does not let them take part."""
        self._standby |= set(names)

    def resume(self, names: Collection[str]) -> None:
        """Let these routers take part again."""
        self._standby -= set(names)
        self._kept.send(vrrp_messages.Resume(sorted(names)))

    async def rows(self) -> list[dict[str, Any]]:
        """Return the routers as the status has them."""
        report = await self._kept.ask(messages.Ask, REPORT_TIMEOUT)
        if not isinstance(report, vrrp_messages.Routing):
            return router_rows.unheard(self._config, self._states)
        return router_rows.rows(self._config, report.routers, time.monotonic(), time.time())

    async def leave(self, *, hand_over: bool) -> None:
        """Let the process leave; within a bound the addresses are somewhere else, or gone.  Scripts may still run."""
        self._kept.release()
        child = self._kept.ready
        if child is None:
            self._kept.kill()
            return
        if self._left.is_set():
            return
        child.send(vrrp_messages.Leave("hand over" if hand_over else "at once"))
        ends = [self._loop.create_task(event.wait()) for event in (self._left, child.gone)]
        done, running = await asyncio.wait(
            ends, timeout=self._longest + LEAVE if hand_over else AT_ONCE, return_when=asyncio.FIRST_COMPLETED
        )
        for one in running:
            one.cancel()
        if not done:
            self._tell("vrrp", "did not leave in time: killed, the addresses vanish when their lease ends", "error", {})
            child.kill()

    async def finish(self) -> None:
        """Wait for the end of the process after it has left, within a bound."""
        child = self._kept.ready
        if child is None:
            return
        try:
            async with asyncio.timeout(FINISH):
                await child.gone.wait()
        except TimeoutError:
            self._tell("vrrp", "did not end in time: killed", "error", {})
            child.kill()

    def hurry(self) -> None:
        """End a hand-over, or the scripts that `finish` waits for."""
        self._kept.send(vrrp_messages.Leave("at once"))

    # -- the process

    def _begin(self) -> None:
        node = self._config.node
        standby = sorted(self._standby)
        self._kept.send(vrrp_messages.Route(self._settings, self._handover, standby, node.stop_timeout, node.state_dir))
        self._kept.send(self._fitness)

    def _take(self, message: messages.Message) -> None:
        match message:
            case vrrp_messages.Held(handover):
                self._handover |= handover
            case vrrp_messages.Moved(name, state, previous, reason, priority, at) if name in self._states:
                self._states[name] = state
                fields = {"state": state, "previous": previous, "priority": priority, "at": at}
                self._tell(name, f"{state}: {reason}", "error" if state == "fault" else "info", fields)
            case vrrp_messages.Left():
                self._left.set()
            case vrrp_messages.Told(name, text, level, at):
                known: Any = level
                self._tell(name, text, known, {"at": at})
