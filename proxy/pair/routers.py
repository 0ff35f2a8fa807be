"""The vrrp process as the master sees it: its settings, its routers' states, and the hand-over of addresses.

If it dies, its successor learns which addresses it held and adopts them while their lease runs.  The master waits for
the process only for an operator's command, and then for a bounded time.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from proxy.pair import router_rows, router_settings
from proxy.pair.router_settings import Prepared
from proxy.processes.child import Child, Identity
from proxy.processes.keeper import Kept
from proxy.processes.messages import common as messages
from proxy.processes.messages import vrrp as vrrp_messages
from proxy.records.timeline import Level
from proxy.status.schema import RouterStatus
from vrrp.settings import SCRIPT_TIMEOUT, former

SILENCE = 1.0  # s without a sign of life until the master kills it, so that its successor is there within the lease
BEAT = 0.25  # s between two of the master's signs of life
REPORT_TIMEOUT = 1.0  # s that a status waits for its answer
HANDOVER = 1.0  # s beyond an advert interval that a hand-over may take
LEAVE = 6.0  # s beyond an advert interval until the addresses are gone
AT_ONCE = 1.0  # s that an end without a hand-over may take
FINISH = SCRIPT_TIMEOUT + 5.0  # s that the notify scripts may take afterwards

Tell = Callable[[str, str, Level, Mapping[str, Any]], None]
BEFORE = "since before the start"  # why a router is in standby that was so then

Inherited = Mapping[str, Any]
"""A router of an earlier version of this daemon: its `keys`, `handover`, `state` and `standby`."""


class Routers:
    """The virtual routers of a daemon; `tell(name, words, level, fields)` records what happens to them.

    `standby` are the names of the routers in standby.  `inherited` are those of an earlier version of this daemon, as its
    `state()` had them.
    """

    def __init__(
        self,
        prepared: Prepared,
        identity: Identity,
        tell: Tell,
        standby: Collection[str],
        inherited: Collection[Inherited] = (),
    ) -> None:
        self._prepared = prepared
        self._state_dir = prepared.config.node.state_dir  # another one needs another master
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._longest = router_settings.longest_interval(prepared.config)
        self._handover: dict[str, list[Any]] = {}
        self._standby: dict[str, tuple[float | None, str]] = dict.fromkeys(standby, (None, BEFORE))
        self._fitness = vrrp_messages.Fitness({}, {}, [], "")
        self._states: dict[str, str] = {one.name: "init" for one in prepared.config.vrrp}
        self._taken_up = self._abandoned = False
        self._quiet = bool(inherited)
        self._number = 1  # of the settings
        self._rerouted: asyncio.Future[list[str]] = self._loop.create_future()
        self._inherit(inherited)
        self._beaten = 0.0
        self.notified: Mapping[str, Mapping[str, int]] = {}
        """The counters of each notification by name, of the last `rows`."""
        self._left = asyncio.Event()
        self._kept = Kept(
            "proxy.vrrpd", identity, silence=SILENCE, on_ready=self._begin, on_message=self._take,
            told=lambda text: tell("vrrp", text, "error", {}),
            afterwards="replaced, the addresses stay for their lease", spare=True,
        )  # fmt: skip
        self.start, self.kill, self.log = self._kept.start, self._kept.kill, self._kept.log

    @property
    def children(self) -> list[Child]:
        """The vrrp process and the one that stands by."""
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
        """The names of the routers in standby."""
        return self._standby

    def look(self, now: float) -> None:
        """Replace a process that hangs or is missing, and send it the master's sign of life."""
        self._kept.look(now)
        if now - self._beaten >= BEAT:
            self._beaten = now
            self._kept.send(messages.Beat())

    @property
    def ready(self) -> bool:
        """Whether the process has started, and can take the routers up at once."""
        return self._kept.ready is not None

    def take_up(self) -> None:
        """Have the process claim the routers; until then it only waits."""
        self._taken_up = True
        if self.ready:
            self._begin()

    def reroute(self, prepared: Prepared, parts: dict[str, dict[str, int]]) -> None:
        """Have the process change its routers where they stand; `parts` are added to the priorities in the same step."""
        orphaned = prepared.config.node.stop_timeout
        equal = prepared.tree == self._prepared.tree and orphaned == self._prepared.config.node.stop_timeout
        stays = former(self._prepared.settings, prepared.settings)
        longest = router_settings.longest_interval(prepared.config)
        self._longest, self._prepared = max(self._longest, longest), prepared
        self._handover = {name: self._handover[was] for name, was in stays.items() if was in self._handover}
        self._standby = {name: self._standby[was] for name, was in stays.items() if was in self._standby}
        names = {one.name: stays.get(one.name, one.name) for one in prepared.config.vrrp}
        self._states = {name: self._states.get(was, "init") for name, was in names.items()}
        if equal:
            return
        self._number += 1
        if not self._rerouted.done():
            self._rerouted.set_result([])  # the settings that follow count
        self._rerouted = self._loop.create_future()
        if self._taken_up:  # a process that is not ready gets the new settings by its `Route`
            self._kept.send(vrrp_messages.Reroute(self._number, prepared.tree, parts, orphaned))

    async def rerouted(self) -> list[str]:
        """Wait until the process has done so, at most as long as a hand-over may take; returns the faults, in words."""
        patience = self._longest + LEAVE
        try:
            async with asyncio.timeout(patience):
                found = await asyncio.shield(self._rerouted)
        except TimeoutError:
            return [f"the vrrp process has not answered within {patience:g} s"]
        self._longest = router_settings.longest_interval(self._prepared.config)
        return found

    def state(self, besides: Collection[str] = ()) -> list[Inherited]:
        """Return the routers for a later version of this daemon; those in `besides` are in standby for this one alone."""
        return [
            {
                "keys": [list(key) for key in one.keys],
                "handover": self._handover.get(one.name),
                "state": self._states[one.name],
                "standby": one.name in self._standby and one.name not in besides,
                "standby_since": self._standby.get(one.name, (None, ""))[0],
                "standby_reason": self._standby.get(one.name, (None, ""))[1],
            }
            for one in self._prepared.settings.routers
        ]

    def _inherit(self, rows: Collection[Inherited]) -> None:
        """Take over what an earlier version knew of the routers that are still there."""
        names = {key: one.name for one in self._prepared.settings.routers for key in one.keys}
        for row in rows:
            name = next((names[key] for one in row["keys"] if (key := tuple(one)) in names), None)
            if name is not None:
                self._states[name] = row.get("state", "init")
                if row.get("standby"):
                    self._standby[name] = row.get("standby_since"), row.get("standby_reason") or BEFORE
                if row.get("handover"):
                    self._handover[name] = row["handover"]

    def abandon(self) -> None:
        """End the process without a word: a successor on this host has the routers, and their addresses stay.

        Moves that its notify scripts do not know yet still reach them.
        """
        self._abandoned = True
        child = self._kept.ready
        self._kept.release()
        if child is None:
            self._kept.kill()
            return
        child.send(vrrp_messages.Leave("abandon"))
        self._loop.call_later(AT_ONCE, lambda: None if self._left.is_set() else child.kill())

    def recover(self) -> None:
        """Have a process again after `abandon`, which adopts the addresses while their lease runs."""
        self._kept.resume()

    def inherit(self, rows: Collection[Inherited]) -> None:
        """Take over the routers of an earlier version as they are now; before `take_up`."""
        self._quiet = bool(rows)
        self._inherit(rows)

    def fit(self, fitness: vrrp_messages.Fitness) -> None:
        """Send this host's fitness."""
        if fitness != self._fitness:
            self._fitness = fitness
            self._kept.send(fitness)

    async def standby(self, names: Collection[str], reason: str) -> list[str]:
        """Put these routers in standby; returns those whose addresses no other host has taken.

        Those stay active, and are not in standby.
        """
        self.mark_standby(names, reason)
        answer = await self._kept.ask(
            lambda number: vrrp_messages.Standby(number, sorted(names), reason), self._longest + HANDOVER
        )
        if isinstance(answer, vrrp_messages.StoodBy):
            left = answer.left
        else:  # it died, and its successor starts in standby
            left = sorted(name for name in names if self._states.get(name) == "active")
        self._end_standby(left)
        return left

    def mark_standby(self, names: Collection[str], reason: str) -> None:
        """Note which routers are in standby and why, for the status and for a process that starts later."""
        for name in set(names) & self._states.keys():  # a reload may have removed one since
            self._standby.setdefault(name, (time.time(), reason))

    def _end_standby(self, names: Collection[str]) -> None:
        for name in names:
            self._standby.pop(name, None)

    def resume(self, names: Collection[str]) -> None:
        """Let these routers take part again."""
        self._end_standby(names)
        self._kept.send(vrrp_messages.Resume(sorted(names)))

    async def rows(self) -> list[RouterStatus]:
        """Return the routers' rows of the status."""
        report = await self._kept.ask(messages.Ask, REPORT_TIMEOUT)
        if not isinstance(report, vrrp_messages.Routing):
            return router_rows.unheard(self._prepared.config, self._states, self._standby)
        self.notified = report.notified
        return router_rows.rows(
            self._prepared.config, report.routers, report.counters, self._standby, time.monotonic(), time.time()
        )

    async def leave(self, *, hand_over: bool) -> None:
        """Make the process release its addresses within a bound, or hand them over.  Scripts may still run."""
        self._kept.release()
        child = self._kept.ready
        if child is None:
            self._kept.kill()
            return
        if self._left.is_set() or self._abandoned:
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
        if not self._taken_up:
            return
        node, quiet = self._prepared.config.node, self._quiet
        self._kept.send(
            vrrp_messages.Route(
                self._number, self._prepared.tree, self._handover, sorted(self._standby), node.stop_timeout,
                self._state_dir, quiet,
            )
        )  # fmt: skip
        self._quiet = False  # a process that replaces this one tells of it
        self._kept.send(self._fitness)

    def _take(self, message: messages.Message) -> None:
        if self._abandoned and not isinstance(message, vrrp_messages.Left):
            return  # the successor tells what happens
        match message:
            case vrrp_messages.Held(number, handover) if number == self._number:
                self._handover |= handover
            case vrrp_messages.Rerouted(number, faults) if number == self._number and not self._rerouted.done():
                self._rerouted.set_result(faults)
            case vrrp_messages.Moved(name, state, previous, reason, priority, at):
                if name in self._states:  # else it has left, as the settings no longer have it
                    self._states[name] = state
                fields = {"state": state, "previous": previous, "priority": priority, "at": at}
                self._tell(name, f"{state}: {reason}", "error" if state == "fault" else "info", fields)
            case vrrp_messages.Left():
                self._left.set()
            case vrrp_messages.Told(name, text, level, at, kind):
                known: Any = level
                self._tell(name, text, known, {"at": at, "kind": kind})
