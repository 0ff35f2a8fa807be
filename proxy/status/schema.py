"""The status of the running system, as every reader of it gets it: JSON shapes of the public contract.

Times (`since`, `at`) are seconds of the Unix epoch, durations seconds (`_s`) or milliseconds (`_ms`). Every key is
always there; what is not known is null, what there is none of is empty.
"""

from typing import Any, Final, Literal, TypedDict

SCHEMA: Final = 1

State = Literal["up", "down", "reserve", "unknown"]
Admin = Literal["ready", "drain", "maint"]
ServiceState = Literal["up", "degraded", "down"]


class ConfigStatus(TypedDict):
    """Which configuration runs. `valid` is False while the file on disk was refused by the last reload."""

    sha256: str
    valid: bool
    overrides: int


class Latency(TypedDict):
    """Milliseconds of the last minute: to connect (TCP) or to the answer (DNS); null without samples."""

    p50: float | None
    p99: float | None


class ProbeStatus(TypedDict):
    """The last result of one probe of one backend."""

    type: str
    ok: bool
    reason: str
    latency_ms: float | None
    at: float


class BackendStatus(TypedDict):
    """One backend of one service. `bytes_in` went to the backend, `bytes_out` came from it; `rate` is a second's."""

    name: str
    address: str
    state: State
    reason: str
    admin: Admin
    admin_by: str | None
    admin_reason: str | None
    tier: int
    weight: int
    effective_weight: float
    active: int
    queued: int
    total: int
    rate: float
    latency_ms: Latency
    bytes_in: int
    bytes_out: int
    errors: dict[str, int]
    since: float | None
    origin: str
    probes: list[ProbeStatus]


class ServiceStatus(TypedDict):
    """One service. `quorum` is how many usable backends it wants."""

    name: str
    protocol: str
    listen: list[str]
    scheduler: str
    state: ServiceState
    quorum: int
    backends: list[BackendStatus]
    counters: dict[str, int]


class WorkerStatus(TypedDict):
    """One data-plane process; `heartbeat_age_s` is null where it has none."""

    index: int
    pid: int | None
    alive: bool
    restarts: int
    generation: int
    draining: bool
    heartbeat_age_s: float | None


class Status(TypedDict):
    """The whole."""

    schema: int
    node: str
    version: str
    uptime_s: float
    generation: int
    config: ConfigStatus
    services: list[ServiceStatus]
    vrrp: list[dict[str, Any]]
    workers: list[WorkerStatus]


def exit_status(status: Status) -> int:
    """Return 0 where all is up, 1 degraded (or a vrrp fault or a failed reload), 2 where a service refuses.

    An admin state alone never degrades: a backend that somebody drained counts neither way. A host without a living
    worker serves nothing, whatever its probes say.
    """
    states = {service["state"] for service in status["services"]}
    workers = status["workers"]
    if "down" in states or (workers and not any(worker["alive"] for worker in workers)):
        return 2
    faults = any(router.get("state") == "fault" for router in status["vrrp"])
    return 1 if "degraded" in states or faults or not status["config"]["valid"] else 0
