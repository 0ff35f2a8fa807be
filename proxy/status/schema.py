"""The status of the running system for every reader: the JSON shapes of the public contract.

Times (`since`, `at`) are texts as in RFC 3339, in UTC ("2026-11-22T17:22:10.123Z"), durations seconds (`_s`) or
milliseconds (`_ms`). Every key is always present; an unknown value is null, a list or table without entries is empty.
"""

from typing import Final, Literal, TypedDict

SCHEMA: Final = 1

State = Literal["up", "down", "reserve", "unknown"]
Admin = Literal["ready", "drain", "maint"]
ServiceState = Literal["up", "degraded", "down", "stopping"]
"""Where it is "stopping", this daemon takes no new clients any more."""


class ConfigStatus(TypedDict):
    """The configuration in force. `valid` is False if the last reload refused the file on disk; `error` says why.

    `on_disk_sha256` differs from `sha256` if the file has been changed since; it is null if the file cannot be read.
    """

    sha256: str
    valid: bool
    error: str | None
    on_disk_sha256: str | None
    overrides: int


class Latency(TypedDict):
    """Milliseconds to connect (TCP) or to the answer (DNS), of the last minute; null without samples."""

    p50: float | None
    p99: float | None


class ProbeStatus(TypedDict):
    """The last result of one probe of one backend."""

    type: str
    ok: bool
    reason: str
    latency_ms: float | None
    at: str


class BackendStatus(TypedDict):
    """One backend of one service. `bytes_in` went to the backend, `bytes_out` came from it; `rate` is per second."""

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
    since: str | None
    origin: str
    probes: list[ProbeStatus]


class ServiceStatus(TypedDict):
    """One service. `quorum` is the number of backends that must be up in a tier."""

    name: str
    protocol: str
    listen: list[str]
    scheduler: str
    state: ServiceState
    quorum: int
    backends: list[BackendStatus]
    counters: dict[str, int]


class AlarmStatus(TypedDict):
    """A fault of this host that hides verdicts: `text` says which, such as a login that every backend refuses."""

    service: str
    text: str
    since: str


class NotifyStatus(TypedDict):
    """A [notify.NAME]: how many changes were `passed` on, `failed`, were `dropped`, and are `waiting`."""

    name: str
    passed: int
    failed: int
    dropped: int
    waiting: int


class PeerStatus(TypedDict):
    """The host whose advert was received last; `node` is null if the file does not name its address."""

    node: str | None
    address: str
    priority: int
    last_advert_s: float


ChangeStatus = TypedDict("ChangeStatus", {"at": str, "from": str, "to": str, "reason": str})
"""The last change of a router's state."""


class RouterStatus(TypedDict):
    """One [vrrp.NAME].  `priority_parts` are added to the priority: by name what failed, and how much it costs.

    A router in `standby` leaves the addresses to other hosts until `steelyard resume`; `standby_since` is null if that is
    from before the start.  `counters` are those of `proxy.stats.meanings.VRRP`.
    """

    name: str
    state: Literal["active", "backup", "fault", "init"]
    priority: int
    effective_priority: int | None
    priority_parts: dict[str, int]
    addresses: list[str]
    standby: bool
    standby_since: str | None
    standby_reason: str | None
    since: str | None
    peer: PeerStatus | None
    last_change: ChangeStatus | None
    counters: dict[str, int]


class WorkerStatus(TypedDict):
    """One worker process; `heartbeat_age_s` is null if it has no heartbeat yet."""

    index: int
    pid: int | None
    alive: bool
    restarts: int
    generation: int
    draining: bool
    heartbeat_age_s: float | None


class Status(TypedDict):
    """The whole status.  While the daemon is "stopping" it may still serve new clients: its services say whether it does."""

    schema: int
    node: str
    state: Literal["running", "stopping"]
    version: str
    uptime_s: float
    generation: int
    config: ConfigStatus
    services: list[ServiceStatus]
    vrrp: list[RouterStatus]
    alarms: list[AlarmStatus]
    notify: list[NotifyStatus]
    workers: list[WorkerStatus]


def exit_status(status: Status) -> int:
    """Return 0 if everything is up, 1 if degraded (also by a vrrp fault or a failed reload), 2 if a service is down.

    An admin state alone never degrades a service: a drained backend counts neither as up nor as down. If no worker is
    alive, the host serves nothing, whatever its probes say, and the result is 2; those of a former daemon serve nobody new.
    """
    states = {service["state"] for service in status["services"]}
    workers = [worker for worker in status["workers"] if not worker["draining"] or status.get("state") == "stopping"]
    if states & {"down", "stopping"} or (workers and not any(worker["alive"] for worker in workers)):
        return 2
    faults = any(router.get("state") == "fault" for router in status["vrrp"])
    return 1 if "degraded" in states or faults or not status["config"]["valid"] else 0
