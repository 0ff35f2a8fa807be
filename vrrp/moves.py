"""The moves of routers by name: IPv4 and IPv6 of a name move as one, and scripts and the daemon are told once."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from vrrp.events import State
from vrrp.guard import guarded
from vrrp.instance import Instance
from vrrp.notify import Notifier
from vrrp.report import Moved, status_of
from vrrp.roster import Roster
from vrrp.settings import SCRIPT_TIMEOUT, Settings


class Moves:
    """The state of each name, and its last change.

    `on_state` gets each move.  `is_ours(instance)` returns False if another process of this host has become the router:
    then that process runs the scripts.
    """

    def __init__(
        self,
        settings: Settings,
        roster: Roster,
        on_state: Callable[[Moved], None],
        is_ours: Callable[[Instance], bool],
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._on_state = on_state
        self._is_ours = is_ours
        self._notifiers: list[Notifier] = []
        self._states: dict[str, State] = {one.name: "init" for one in settings.routers}
        self._group_states: dict[str, State] = {}
        self._last: dict[str, dict[str, Any]] = {}

    def start(self, notifiers: list[Notifier]) -> None:
        """Tell these of each move from now on."""
        self._notifiers = notifiers

    def state(self, name: str) -> State:
        """Return the state of a name.  Raises KeyError for an unknown name."""
        return self._states[name]

    def status(self) -> list[dict[str, Any]]:
        """Return each name as `status` shows it; times are monotonic seconds."""
        return [
            status_of(list(self._roster.named(name)), state, self._last.get(name))
            for name, state in self._states.items()
        ]

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
        for group, names in self._settings.sync_groups.items():
            if name not in names or len({self._states[one] for one in names}) > 1:
                continue
            if self._group_states.get(group) != state:
                self._group_states[group] = state
                for notifier in self._notifiers:
                    notifier.tell("GROUP", group, state, 0)

    def hurry(self) -> None:
        """End the scripts that `finish` waits for."""
        for notifier in self._notifiers:
            notifier.hurry()

    async def finish(self, patience: float = SCRIPT_TIMEOUT) -> None:
        """Wait until all moves have been told, for at most `patience` seconds."""
        await asyncio.gather(*(notifier.close(patience) for notifier in self._notifiers))
