"""Which command is answered by whom."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy.backends.admin import ADMINS, Admins
from proxy.backends.effective import Running
from proxy.backends.membership import Membership
from proxy.commands.connections import Connections
from proxy.commands.pick import pick_handler
from proxy.commands.probe import probe_handler
from proxy.control.server import ControlServer, Handler, Request
from proxy.pair.pair import Redundancy
from proxy.probing.prober import Prober
from proxy.stats.columns import Columns
from proxy.stats.layout import SERVICE_INFLIGHT
from proxy.workers.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class Parts:
    """What of a daemon answers."""

    running: Running
    columns: Columns
    workers: Supervisor
    prober: Prober
    redundancy: Redundancy
    admins: Admins
    membership: Membership


def register(control: ControlServer, status: Handler, parts: Parts) -> None:
    """Register all commands but `events`, which needs a timeline."""
    running, workers = parts.running, parts.workers

    def inflight(service: str) -> int:
        columns = parts.columns
        return columns.sum(columns.layout.service(running.slots[0][service]) + SERVICE_INFLIGHT)

    def told(subject: str, text: str, fields: Mapping[str, Any]) -> None:
        workers.owner.told(subject, text, kind="admin", **fields)

    browsed = Connections(
        running, workers.alive, workers.ask, (workers.follow, workers.unfollow), inflight, told,
    )  # fmt: skip
    reading: dict[str, Handler] = {
        "status": status,
        "config": lambda _: {"config": running.config.model_dump(mode="json", by_alias=True)},
        "connections": browsed.connections,
        "pick": pick_handler(running, workers.alive, workers.ask),
        "overrides": lambda _: {"overrides": _overrides(parts)},
        "is-active": parts.redundancy.is_active,
    }
    changing: dict[str, Handler] = {
        "probe": probe_handler(running, parts.prober.run),
        "disconnect": browsed.disconnect,
        "standby": parts.redundancy.standby,
        "resume": parts.redundancy.resume,
        **dict.fromkeys(ADMINS, parts.admins.act),
        "add": parts.membership.add,
        "remove": parts.membership.remove,
        "weight": parts.membership.weight,
        "overrides-clear": lambda request: _clear(parts, request),
    }
    for commands, mutates in ((reading, False), (changing, True)):
        for name, handler in commands.items():
            control.register(name, handler, mutates=mutates)


def _overrides(parts: Parts) -> list[dict[str, Any]]:
    return [*parts.admins.rows(), *parts.membership.rows()]


def _clear(parts: Parts, request: Request) -> Mapping[str, Any]:
    """Answer `overrides clear`: what the file says holds again."""
    changed = bool(_overrides(parts))
    parts.admins.clear(request)
    parts.membership.clear(request)
    return {"overrides": _overrides(parts), "changed": changed}
