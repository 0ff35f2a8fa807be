"""The moves of routers by name: IPv4 and IPv6 of a name move as one, and scripts and the daemon are told once."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vrrp.events import State
from vrrp.guard import guarded
from vrrp.instance import Instance
from vrrp.notify import Notifier
from vrrp.report import Moved, status_of
from vrrp.roster import Pair, Roster
from vrrp.settings import SCRIPT_TIMEOUT, NotifySettings


class Moves:
    """The state of each name, and its last change.

    `on_state` gets each move.  `is_ours(instance)` returns False if another process of this host has become the router:
    then that process runs the scripts.  `make(settings)` makes a notifier.
    """

    def __init__(
        self,
        roster: Roster,
        on_state: Callable[[Moved], None],
        is_ours: Callable[[Instance], bool],
        make: Callable[[NotifySettings], Notifier],
    ) -> None:
        self._roster = roster
        self._on_state = on_state
        self._is_ours = is_ours
        self._make = make
        self._notifiers: list[Notifier] = []
        self._retired: list[Notifier] = []  # those of settings that are gone; they pass on what leaves with them
        self._ending: dict[asyncio.Task[None], Notifier] = {}
        self._states: dict[str, State] = dict.fromkeys(roster.setting, "init")
        self._leaving: dict[str, tuple[State, list[tuple[Notifier, NotifySettings]]]] = {}  # by the settings it had
        self._group_states: dict[str, State] = {}
        self._last: dict[str, dict[str, Any]] = {}

    def begin(self, known: Mapping[str, Mapping[str, Any]]) -> None:
        """Take part with the names that there are; `known` has the last change of each that is not to be told again."""
        self._states = {name: known[name]["to"] if name in known else "init" for name in self._roster.setting}
        self._last = {name: dict(change) for name, change in known.items() if name in self._states}
        for group, names in self._roster.settings.sync_groups.items():
            states = {self._states[one] for one in names}
            if len(states) == 1 and set(names) <= known.keys():
                self._group_states[group] = states.pop()
        self._notifiers = [self._make(one) for one in self._roster.settings.notify]

    def arrange(self, before: Mapping[str, str]) -> None:
        """Follow new settings; `before` has the name that each router had, if it was there."""
        names, renamed = self._roster.setting, set(before.values()) - before.keys()
        for name in self._states.keys() - names - set(before.values()):
            self._leaving[name] = self._states[name], [(one, one.settings) for one in self._notifiers]
        was = {name: before.get(name, name) for name in names if name in before or name not in renamed}
        states, last = self._states, self._last
        self._states = {name: states.get(was.get(name, ""), "init") for name in names}
        self._last = {name: last[was[name]] for name in names if was.get(name) in last}
        groups = self._roster.settings.sync_groups
        self._group_states = {name: state for name, state in self._group_states.items() if name in groups}
        self._notify(self._roster.settings.notify)

    def _notify(self, settings: Sequence[NotifySettings]) -> None:
        """Have these notifiers: one whose script or FIFO stays goes on, so that its moves stay in order."""
        old, self._notifiers = self._notifiers, []
        spare = list(old)
        for one in settings:
            found = next((notifier for notifier in spare if notifier.goes_to(one)), None)
            if found is None:
                self._notifiers.append(self._make(one))
            else:
                spare.remove(found)
                found.change(one)
                self._notifiers.append(found)
        self._retired += spare

    def retire(self) -> None:
        """Let the notifiers end whose settings are gone, once no router that leaves needs them."""
        if self._leaving:
            return
        retired, self._retired = self._retired, []
        for notifier in retired:
            task = asyncio.create_task(notifier.close())
            self._ending[task] = notifier
            task.add_done_callback(self._ending.pop)

    def left(self, name: str, pairs: Sequence[Pair]) -> None:
        """Tell that all routers of a name have left which the settings no longer have."""
        previous, notifiers = self._leaving.pop(name, ("init", []))
        if previous == "init":
            return
        priority = min(router.effective_priority for router, _ in pairs)
        guarded(self._on_state, Moved(name, "init", previous, pairs[0][0].reason, priority))
        if all(self._is_ours(one) for _, one in pairs):
            for notifier, settings in notifiers:
                notifier.tell("INSTANCE", name, "init", priority, settings)

    def state(self, name: str) -> State:
        """Return the state of a name.  Raises KeyError for an unknown name."""
        return self._states[name]

    def last(self, name: str) -> dict[str, Any] | None:
        """Return the last change of a name, None if there was none."""
        return self._last.get(name)

    def status(self) -> list[dict[str, Any]]:
        """Return each name as `status` shows it; times are monotonic seconds."""
        return [
            status_of(list(self._roster.named(name)), state, self._last.get(name))
            for name, state in self._states.items()
        ]

    def notified(self) -> dict[str, dict[str, int]]:
        """Return the counters of each notification by name."""
        return {
            one.settings.name: {**one.counters, "waiting": one.waiting} for one in self._notifiers if one.settings.name
        }

    def settle(self, name: str) -> None:
        """Tell of a move of a name, once both of its IP versions have made it."""
        state = self._roster.state(name)
        # A router that only follows another one has a reason at second hand.
        there = [router for router, _ in self._roster.named(name) if router.state == state]
        reason = min(there, key=lambda router: self._roster.group_of(router).follows(router)).reason
        previous = self._states[name]
        if state == previous:
            return
        self._states[name] = state
        priority = min(router.effective_priority for router, _ in self._roster.named(name))
        self._last[name] = {"at": time.monotonic(), "from": previous, "to": state, "reason": reason}
        guarded(self._on_state, Moved(name, state, previous, reason, priority))
        if not all(self._is_ours(one) for _, one in self._roster.named(name)):
            return
        for notifier in self._notifiers:
            notifier.tell("INSTANCE", name, state, priority)
        for group, names in self._roster.settings.sync_groups.items():
            if name not in names or len({self._states[one] for one in names}) > 1:
                continue
            if self._group_states.get(group) != state:
                self._group_states[group] = state
                for notifier in self._notifiers:
                    notifier.tell("GROUP", group, state, 0)

    def hurry(self) -> None:
        """End the scripts that `finish` waits for."""
        for notifier in (*self._notifiers, *self._retired, *self._ending.values()):
            notifier.hurry()

    async def finish(self, patience: float = SCRIPT_TIMEOUT) -> None:
        """Wait until all moves have been told, for at most `patience` seconds."""
        everyone = (*self._notifiers, *self._retired, *self._ending.values())
        await asyncio.gather(*(notifier.close(patience) for notifier in everyone))
