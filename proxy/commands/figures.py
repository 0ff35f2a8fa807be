"""Collects what the metrics show besides the status, from the daemon's parts, when the herald process gets a snapshot."""

import json
import os
import resource
import time
from collections.abc import Collection, Generator, Mapping
from pathlib import Path
from typing import Final

from health.timing import BOUNDS
from proxy.backends.effective import written
from proxy.commands.registry import Parts
from proxy.config.model import Backend, BackendKey, Config, Service
from proxy.herald.herald import Herald
from proxy.moments import unix
from proxy.status.carried import Carried, Key
from proxy.status.figures import BackendFigures, Figures, ProbeFigures, RouterFigures, ServiceFigures
from proxy.status.snapshot import Snapshot
from proxy.web.reasons import WEB_REASONS

MOVES: Final = "transitions"
"""The key, before the router's name, of the count of its changes of state."""
_CONFLICTS: Final = "conflicts"
_PROBES: Final = "probe"
_RESTARTS: Final[Key] = ("worker restarts",)
_REFUSED: Final = "web refused"
_OWN_FILES: Final = Path("/proc/self/fd")


class FigureCollector:
    """The figures of a daemon; `carried` has the sums of the counters of its processes."""

    def __init__(self, parts: Parts, carried: Carried, herald: Herald) -> None:
        self._parts = parts
        self._carried = carried
        self._herald = herald

    def collected(self, snapshot: Snapshot) -> Generator[None, None, Figures]:
        """Return the figures beside a snapshot; a generator that pauses at each backend."""
        parts, config = self._parts, self._parts.running.config
        counters = {one["name"]: one["counters"] for one in snapshot.status["services"]}
        services = {}
        for service in config.services:
            services[service.name] = yield from self._service(service, counters.get(service.name, {}), snapshot)
        self._carried.keep(lambda key: _is_configured(key, parts.running.backends.keys(), config))
        restarts = self._carried.take(_RESTARTS, os.getpid(), [sum(row.restarts for row in parts.workers.rows())])
        return {
            "services": services,
            "vrrp": {router.name: self._router(router.name) for router in config.vrrp},
            "worker_restarts": int(restarts[0]),
            "files": self._files(snapshot),
            "override_age_s": self._oldest_override(),
            "web_refused": self._refused(),
        }

    def _service(
        self, service: Service, counters: Mapping[str, int], snapshot: Snapshot
    ) -> Generator[None, None, ServiceFigures]:
        backends = {}
        for backend in service.backends:
            yield
            key = (service.name, backend.name)
            latency = {str(at): count for at, count in snapshot.latencies.get(key, {}).items()}
            backends[backend.name] = BackendFigures(
                standby=key in snapshot.standby, latency=latency, probes=self._probes(key, backend)
            )
        datagrams = service.protocol == "plain" and any(one.transport == "udp" for one in service.listeners)
        return {
            "udp_sessions": counters.get("sessions", 0) - counters.get("connections", 0) if datagrams else 0,
            "udp_sessions_limit": service.udp.max_sessions if datagrams else None,
            "backends": backends,
        }

    def _probes(self, key: BackendKey, backend: Backend) -> list[ProbeFigures]:
        prober = self._parts.prober
        rows = prober.timings.get(written(key), ())
        found: list[ProbeFigures] = []
        for number, probe in enumerate(backend.probes):
            name = (_PROBES, *key, str(number))
            row = rows[number] if number < len(rows) else ()
            if len(row) == 3 + len(BOUNDS) + 1:
                seconds, rejected, lag, *buckets = row
                counted = [seconds or 0.0, *(count or 0.0 for count in buckets)]
                sums = self._carried.take(name, prober.life, counted)
            else:  # a health process that has only begun, or that an attacker has taken over
                rejected, lag, sums = 0.0, None, self._carried.sums(name)
            ran = len(sums) == len(BOUNDS) + 2
            found.append(
                {
                    "type": probe.type,
                    "seconds": round(sums[0], 6) if ran else 0.0,
                    "buckets": list(sums[1:]) if ran else [],
                    "rejected": bool(rejected),
                    "lag": lag,
                }
            )
        return found

    def _router(self, name: str) -> RouterFigures:
        life, counters = self._parts.redundancy.counters
        counted = [value.get("conflicts", 0) for key, value in counters.items() if key.rpartition("/")[0] == name]
        key = (_CONFLICTS, name)
        conflicts = self._carried.take(key, life, [sum(counted)]) if counted else self._carried.sums(key)
        moves = self._carried.sums((MOVES, name))
        return {"transitions": int(sum(moves)), "conflicts": int(sum(conflicts))}

    def _files(self, snapshot: Snapshot) -> dict[str, tuple[int, int]]:
        """Return how many files each process has open and may have open."""
        own = len(list(_OWN_FILES.iterdir())), resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        workers = {
            f"worker {index}": (cells["open_files"], cells["open_files_limit"])
            for index, cells in snapshot.headers.items()
            if cells["open_files_limit"]
        }
        return {"master": own, **workers}

    def _refused(self) -> dict[str, int]:
        """Return what HTTP has refused by reason, also in lives that have ended."""
        for reason, count in self._herald.refused.items():
            if reason in WEB_REASONS:
                self._carried.take((_REFUSED, reason), self._herald.life, [count])
        return {reason: int(sum(self._carried.sums((_REFUSED, reason)))) for reason in WEB_REASONS}

    def _oldest_override(self) -> float | None:
        """Return the seconds since the oldest change of an operator that is in force."""
        rows = [*self._parts.admins.rows(), *self._parts.membership.rows()]
        times = [unix(row["at"]) for row in rows if row.get("at") is not None]
        return round(max(0.0, time.time() - min(times)), 3) if times else None


def encoded(figures: Figures) -> Generator[None, None, bytes]:
    """Return the figures as JSON; a generator that pauses at each service."""
    services = []
    for name, service in figures["services"].items():
        backends = []
        for backend, row in service["backends"].items():
            yield
            backends.append(f"{json.dumps(backend)}: {json.dumps(row)}")
        rest = json.dumps({key: value for key, value in service.items() if key != "backends"})
        services.append(f'{json.dumps(name)}: {rest[:-1]}, "backends": {{{", ".join(backends)}}}}}')
    rest = json.dumps({key: value for key, value in figures.items() if key != "services"})
    return f'{rest[:-1]}, "services": {{{", ".join(services)}}}}}'.encode()


def _is_configured(key: Key, backends: Collection[BackendKey], config: Config) -> bool:
    """Return True if a counter is of something that the configuration has."""
    match key:
        case (kind, service, backend, _) if kind == _PROBES:
            return (service, backend) in backends
        case (kind, router) if kind in {MOVES, _CONFLICTS}:
            return any(router == one.name for one in config.vrrp)
        case _:
            return True
