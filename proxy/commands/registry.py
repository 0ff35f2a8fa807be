"""Which command is answered by whom."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy.backends.admin import ADMINS, Admins
from proxy.backends.effective import Running
from proxy.backends.membership import Membership
from proxy.backends.readiness import Readiness
from proxy.commands.admin import admin_handler
from proxy.commands.connections import Connections
from proxy.commands.membership import MembershipCommands
from proxy.commands.overrides import OverrideCommands
from proxy.commands.pick import pick_handler
from proxy.commands.probe import probe_handler
from proxy.commands.standby import StandbyCommands
from proxy.control.server import ControlServer, Handler
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
    readiness: Readiness


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
    standby = StandbyCommands(parts.redundancy)
    membership = MembershipCommands(running, parts.admins, parts.membership)
    overrides = OverrideCommands(parts.admins, parts.membership, parts.readiness)
    reading: dict[str, Handler] = {
        "status": status,
        "config": lambda _: {"config": running.config.model_dump(mode="json", by_alias=True)},
        "connections": browsed.connections,
        "pick": pick_handler(running, workers.alive, workers.ask),
        "overrides": overrides.overrides,
        "is-active": standby.is_active,
    }
    changing: dict[str, Handler] = {
        "probe": probe_handler(running, parts.prober.run),
        "disconnect": browsed.disconnect,
        "standby": standby.standby,
        "resume": standby.resume,
        **dict.fromkeys(ADMINS, admin_handler(running, parts.admins, parts.readiness)),
        "add": membership.add,
        "remove": membership.remove,
        "weight": membership.weight,
        "overrides-clear": overrides.clear,
    }
    for commands, mutates in ((reading, False), (changing, True)):
        for name, handler in commands.items():
            control.register(name, handler, mutates=mutates)
