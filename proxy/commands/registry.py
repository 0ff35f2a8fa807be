"""Registers the handler of each command."""

import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.backends.admin import Admins
from proxy.backends.admin_acts import ADMINS
from proxy.backends.counts import Counts
from proxy.backends.effective import Running
from proxy.backends.membership import Membership
from proxy.backends.readiness import Readiness
from proxy.commands.admin import admin_handler
from proxy.commands.config import config_handler
from proxy.commands.connections import Connections
from proxy.commands.membership import MembershipCommands
from proxy.commands.overrides import OverrideCommands
from proxy.commands.pick import pick_handler
from proxy.commands.probe import probe_handler
from proxy.commands.reload import ReloadCommand
from proxy.commands.standby import StandbyCommands
from proxy.control.server import ControlServer, Handler, Request, Result
from proxy.pair.pair import Redundancy
from proxy.probing.prober import Prober
from proxy.reload import Reload
from proxy.reload_queue import ReloadQueue
from proxy.status.rows import WorkerRow
from proxy.status.schema import AlarmStatus
from proxy.workers.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class Stage:
    """Whether the daemon is stopping, and whether it takes no new clients any more."""

    stopping: bool = False
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the daemon that the commands use."""

    running: Running
    counts: Counts
    workers: Supervisor
    prober: Prober
    redundancy: Redundancy
    admins: Admins
    membership: Membership
    readiness: Readiness
    reload: Reload
    reloads: ReloadQueue
    former: Callable[[], Sequence[WorkerRow]] = tuple
    """Returns the workers of former daemons."""
    stage: Callable[[], Stage] = Stage
    """Returns whether the daemon is stopping."""
    alarms: Callable[[], Sequence[AlarmStatus]] = tuple
    """Returns the alarms that are raised now."""
    notified: Callable[[], Mapping[str, Mapping[str, int]]] = dict
    """Returns by name of a notification its counters of services and backends."""


def register(control: ControlServer, status: Handler, changes: Callable[[], None], parts: Parts) -> None:
    """Register all commands except `events`, which needs a timeline.

    `changes()` is called whenever a command may change something.
    """
    running, workers = parts.running, parts.workers

    def told(subject: str, text: str, fields: Mapping[str, Any]) -> None:
        workers.owner.told(subject, text, kind="admin", **fields)

    browsed = Connections(
        running, workers.alive, workers.ask, (workers.follow, workers.unfollow), parts.counts.inflight, told,
    )  # fmt: skip
    standby = StandbyCommands(parts.redundancy)
    membership = MembershipCommands(running, parts.admins, parts.membership)
    overrides = OverrideCommands(parts.admins, parts.membership, parts.readiness)
    reading: dict[str, Handler] = {
        "status": status,
        "config": config_handler(running),
        "connections": browsed.connections,
        "pick": pick_handler(running, workers.alive, workers.ask),
        "overrides": overrides.overrides,
        "is-active": standby.is_active,
    }
    changing: dict[str, Handler] = {
        "probe": probe_handler(running, parts.prober.run),
        "disconnect": browsed.disconnect,
        "reload": ReloadCommand(parts.reloads, parts.reload.plan).reload,
        "standby": standby.standby,
        "resume": standby.resume,
        **dict.fromkeys(ADMINS, admin_handler(running, parts.admins, parts.readiness)),
        "add": membership.add,
        "remove": membership.remove,
        "weight": membership.weight,
        "overrides-clear": overrides.clear,
    }
    for name, handler in reading.items():
        control.register(name, handler, mutates=False)
    for name, handler in changing.items():
        control.register(name, _announced(handler, changes), mutates=True)


def _announced(handler: Handler, changes: Callable[[], None]) -> Handler:
    """Return a handler that calls `changes` when an act is in force: an act that is saved first takes effect late."""

    async def answer(request: Request) -> Result:
        try:
            result = handler(request)
            if inspect.isawaitable(result):
                result = await result
        finally:
            changes()
        return _ending(result, changes) if isinstance(result, AsyncIterator) else result

    return answer


async def _ending(
    lines: AsyncIterator[Mapping[str, Any]], changes: Callable[[], None]
) -> AsyncIterator[Mapping[str, Any]]:
    """Pass the lines on, and call `changes` before each."""
    try:
        async for line in lines:
            changes()
            yield line
    finally:
        close = getattr(lines, "aclose", None)  # so that a generator releases its resources
        if close is not None:
            await close()
