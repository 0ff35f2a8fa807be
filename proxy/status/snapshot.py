"""Builds the one view of the running system that status, dashboard and metrics share, so that they cannot disagree.

All inputs are plain values: the effective configuration, the summed columns, the last verdicts, the workers. This
module does not read the clock and does no I/O.
"""

import json
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from proxy.config.model import BackendKey
from proxy.moments import rfc3339
from proxy.stats import layout
from proxy.stats.columns import Columns
from proxy.stats.histogram import CELLS, bounds, percentile
from proxy.stats.slots import Slots
from proxy.status.rows import NO_VERDICT, NOT_PROBED, Node, Override, Verdict, WorkerRow
from proxy.status.sampler import Sampler
from proxy.status.schema import (
    SCHEMA,
    AlarmStatus,
    BackendStatus,
    Latency,
    NotifyStatus,
    ProbeStatus,
    RouterStatus,
    ServiceState,
    ServiceStatus,
    Status,
    WorkerStatus,
    exit_status,
)

if TYPE_CHECKING:
    from proxy.config.model import Backend, Service


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The system at one instant: `as_dict` is the public status; the rest is for the metrics.

    `headers` are each worker's own cells, `latencies` the filled buckets of each backend's histogram since the start,
    `standby` the backends that are down only because they have another role than the wanted one.
    """

    status: Status
    headers: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    latencies: Mapping[BackendKey, Mapping[int, int]] = field(default_factory=dict)
    standby: Collection[BackendKey] = frozenset()

    def as_dict(self) -> Status:
        """Return the status as the public contract defines it; ready for JSON."""
        return self.status

    def exit_status(self) -> int:
        """Return the exit status of `steelyard status`."""
        return exit_status(self.status)


def encoded(status: Status) -> Generator[None, None, bytes]:
    """Return the status as JSON; a generator that pauses at each backend."""
    services = []
    for service in status["services"]:
        backends = []
        for backend in service["backends"]:
            yield
            backends.append(json.dumps(backend))
        services.append(_with(service, "backends", backends))
    return _with(status, "services", services).encode()


def _with(document: Mapping[str, Any], key: str, rows: Sequence[str]) -> str:
    """Return a document as JSON, with `rows`, which are JSON already, as the value of `key`."""
    rest = json.dumps({name: value for name, value in document.items() if name != key})
    return f'{rest[:-1]}, "{key}": [{", ".join(rows)}]}}'


class SnapshotBuilder:
    """Knows where everything is counted; `build` reads the counters. The master calls `sample` once a second."""

    def __init__(self, columns: Columns, services: Slots[str], backends: Slots[BackendKey]) -> None:
        self._columns = columns
        self._services = services
        self._backends = backends
        self._sampler: Sampler[BackendKey] = Sampler()

    def sample(self, now: float, services: Sequence["Service"]) -> None:
        """Sample the counters for rates and recent latencies; `now` in monotonic seconds."""
        self._sampler.sample(now, self._totals(services), self._latencies)

    def build(
        self,
        node: Node,
        services: Sequence["Service"],
        verdicts: Mapping[BackendKey, Verdict],
        workers: Sequence[WorkerRow],
        *,
        now_ns: int,
        overrides: Mapping[BackendKey, Override] | None = None,
        vrrp: Sequence[RouterStatus] = (),
        alarms: Sequence[AlarmStatus] = (),
        notify: Sequence[NotifyStatus] = (),
        added: Collection[BackendKey] = (),
    ) -> Generator[None, None, Snapshot]:
        """Return the view of this instant; `now_ns` is CLOCK_MONOTONIC, as in the workers' heartbeats.

        `added` are the backends that are not in the file.  A generator that pauses at each backend.
        """
        shown: list[ServiceStatus] = []
        latencies: dict[BackendKey, Mapping[int, int]] = {}
        for service in services:
            shown += yield from self._service(service, verdicts, overrides or {}, added, latencies)
        if node.closed:
            shown = [{**service, "state": "stopping"} for service in shown]
        status = Status(
            schema=SCHEMA,
            node=node.name,
            state="stopping" if node.stopping else "running",
            version=node.version,
            uptime_s=round(node.uptime, 3),
            generation=node.generation,
            config={
                "sha256": node.sha256,
                "valid": node.error is None,
                "error": node.error,
                "on_disk_sha256": node.on_disk_sha256,
                "overrides": node.overrides,
            },
            services=shown,
            vrrp=list(vrrp),
            alarms=list(alarms),
            notify=list(notify),
            workers=[self._worker(row, now_ns) for row in workers],
        )
        ours = [row for row in workers if row.life in self._columns.live and not row.draining]
        standby = frozenset(key for key, verdict in verdicts.items() if verdict.standby)
        return Snapshot(status, {row.index: self._header(row) for row in ours}, latencies, standby)

    def histogram(self, key: BackendKey) -> list[tuple[float, int]]:
        """Return a backend's latencies of the last minute: (up to so many milliseconds, samples), without empty cells."""
        if key not in self._backends:
            return []
        recent = self._sampler.recent(key, self._latencies(key))
        return [(bounds(at)[1] / 1000, count) for at, count in enumerate(recent) if count > 0]

    def _totals(self, services: Sequence["Service"]) -> Iterator[tuple[BackendKey, int]]:
        for service in services:
            for backend in service.backends:
                key = (service.name, backend.name)
                yield key, self._columns.sum(self._columns.layout.backend(self._backends[key]) + layout.BACKEND_TOTAL)

    def _latencies(self, key: BackendKey) -> Sequence[int]:
        return self._columns.block(self._columns.layout.backend(self._backends[key]) + layout.BACKEND_LATENCY, CELLS)

    def _service(
        self,
        service: "Service",
        verdicts: Mapping[BackendKey, Verdict],
        overrides: Mapping[BackendKey, Override],
        added: Collection[BackendKey],
        latencies: dict[BackendKey, Mapping[int, int]],
    ) -> Generator[None, None, list[ServiceStatus]]:
        """Return a service and its backends, without those that were removed during a pause; add to the `latencies`."""
        backends = []
        for backend in service.backends:
            yield
            key = (service.name, backend.name)
            if key not in self._backends:
                continue
            cells = self._columns.block(self._columns.layout.backend(self._backends[key]), layout.BACKEND_SIZE)
            latencies[key] = {at: count for at, count in enumerate(cells[layout.BACKEND_LATENCY :]) if count > 0}
            entry = self._backend(key, backend, cells, verdicts.get(key), overrides.get(key))
            backends.append({**entry, "origin": "added"} if key in added else entry)
        if service.name not in self._services:
            return []
        first = self._columns.layout.service(self._services[service.name])
        cells = self._columns.block(first, len(layout.SERVICE_CELLS))
        return [
            {
                "name": service.name,
                "protocol": service.protocol,
                "listen": [listener.text for listener in service.listeners],
                "scheduler": service.scheduler,
                "state": service_state(
                    [entry for entry in backends if _counts(entry, verdicts.get((service.name, entry["name"])))],
                    fail_open=service.fail_open,
                ),
                "quorum": service.quorum,
                "backends": backends,
                "counters": {name: cells[offset] for offset, (name, _) in enumerate(layout.SERVICE_CELLS)},
            }
        ]

    def _backend(
        self,
        key: BackendKey,
        backend: "Backend",
        cells: Sequence[int],
        verdict: Verdict | None,
        override: Override | None,
    ) -> BackendStatus:
        if override is None:
            override = Override(backend.admin, None if backend.admin == "ready" else "the configuration file")
        if verdict is None:
            verdict = Verdict("unknown", NOT_PROBED if override.admin == "maint" else NO_VERDICT, None)
        return {
            "name": backend.name,
            "address": endpoint(backend.address, backend.port),
            "state": verdict.state,
            "reason": verdict.reason,
            "admin": override.admin,
            "admin_by": override.by,
            "admin_reason": override.reason,
            "tier": backend.tier,
            "weight": backend.weight,
            "effective_weight": _effective(backend.weight, verdict),
            "active": cells[layout.BACKEND_ACTIVE],
            "queued": cells[layout.BACKEND_QUEUED],
            "total": cells[layout.BACKEND_TOTAL],
            "rate": round(self._sampler.rate(key), 1),
            "latency_ms": self._latency(key, cells[layout.BACKEND_LATENCY :]),
            "bytes_in": cells[layout.BACKEND_BYTES_IN],
            "bytes_out": cells[layout.BACKEND_BYTES_OUT],
            "errors": {reason: cells[offset] for reason, offset in layout.BACKEND_ERRORS},
            "since": rfc3339(verdict.since),
            "origin": "file",
            "probes": [_probe(one) for one in verdict.probes],
        }

    def _latency(self, key: BackendKey, cells: Sequence[int]) -> Latency:
        recent = self._sampler.recent(key, cells)
        p50, p99 = percentile(recent, 0.5), percentile(recent, 0.99)
        return {"p50": None if p50 is None else round(p50, 3), "p99": None if p99 is None else round(p99, 3)}

    def _worker(self, row: WorkerRow, now_ns: int) -> WorkerStatus:
        heartbeat = self._cell(row, layout.HEARTBEAT)
        return {
            "index": row.index,
            "pid": row.pid,
            "alive": row.alive,
            "restarts": row.restarts,
            "generation": self._cell(row, layout.GENERATION),
            "draining": row.draining or self._cell(row, layout.DRAINING) != 0,
            "heartbeat_age_s": round(max(0, now_ns - heartbeat) / 1e9, 3) if heartbeat else None,
        }

    def _cell(self, row: WorkerRow, cell: int) -> int:
        return 0 if row.life is None else self._columns.cell(row.life, cell)

    def _header(self, row: WorkerRow) -> dict[str, int]:
        return {name: self._cell(row, cell) for cell, (name, _) in enumerate(layout.HEADER_CELLS)}


def endpoint(address: str, port: int | None) -> str:
    """Return "10.0.0.31:3306" or "[2001:db8::1]:3306"; only the address if the port is the listener's."""
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _probe(row: Mapping[str, Any]) -> ProbeStatus:
    shown: Any = {**row, "at": rfc3339(row["at"])}
    return shown  # type: ignore[no-any-return]


def _effective(weight: int, verdict: Verdict) -> float:
    """Return the weight of a backend, or the one that its probe sets; 0 if it gets no new traffic."""
    if not verdict.serving:
        return 0
    return weight if verdict.weight is None else verdict.weight


def service_state(counted: Collection[BackendStatus], *, fail_open: bool) -> ServiceState:
    """Return "up" if every backend that counts is usable, "degraded" if some are usable or serve unjudged, else "down".

    A backend that an operator drained, put into maintenance or gave weight 0 does not count, nor does one with another
    role than the wanted one. But if only such backends are left, the service refuses clients and is "down".
    """
    usable = [entry for entry in counted if entry["state"] in {"up", "reserve"}]
    if not usable:
        serving = any(entry["state"] == "unknown" and entry["effective_weight"] for entry in counted)
        return "degraded" if serving or (fail_open and counted) else "down"
    return "up" if len(usable) == len(counted) else "degraded"


def _counts(entry: BackendStatus, verdict: Verdict | None) -> bool:
    """Return True if a backend counts for its service's state: ready, with an effective weight and the wanted role."""
    weight = entry["weight"] if verdict is None or verdict.weight is None else verdict.weight
    return entry["admin"] == "ready" and weight > 0 and not (verdict is not None and verdict.standby)
