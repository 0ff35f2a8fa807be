"""Turns a snapshot into metrics, by prometheus-client's own text and OpenMetrics writers.

The snapshot is the one that `steelyard status` and the page show, so they cannot disagree.
"""

import json
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from health.timing import BOUNDS
from proxy.stats.histogram import CELLS, bounds
from proxy.web import names
from proxy.web.names import Name
from proxy.web.view import Seen

POWERS: Final = range(8, 24)
"""A latency's buckets end at 2 to the power of these, in microseconds: 0.26 ms to 8.4 s, where the counted ones end."""

Values = Sequence[str]


def rendered(seen: Seen, age: float, accept: str) -> tuple[bytes, str]:
    """Return the metrics of a snapshot that is `age` seconds old, and their content type as the client accepts it."""
    encode, content_type = choose_encoder(accept)
    return encode(SnapshotCollector(json.loads(seen.status), json.loads(seen.figures), age)), content_type


class _Family:
    """The samples of one metric; each has the node's label first."""

    def __init__(self, name: Name, node: str) -> None:
        self._node = node
        labels = ["node", *(label for label in name.labels if name.kind != "info")]
        full = names.PREFIX + name.name
        kinds = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily, "histogram": HistogramMetricFamily}
        self._info = name.labels[0] if name.kind == "info" else ""
        self.metric: Any = (InfoMetricFamily if self._info else kinds[name.kind])(full, name.meaning, labels=labels)

    def add(self, value: float | None, *labels: str) -> None:
        """Add a sample, unless its value is unknown."""
        if value is not None:
            self.metric.add_metric([self._node, *labels], value)

    def tell(self, text: str) -> None:
        """Add the sample of an info."""
        self.metric.add_metric([self._node], {self._info: text})

    def spread(self, counts: Iterable[tuple[float, float]], total: float, *labels: str) -> None:
        """Add a histogram: (upper bound in seconds, runs in this bucket alone), the last without a bound; and its sum."""
        buckets, so_far = [], 0.0
        for bound, count in counts:
            so_far += count
            buckets.append(("+Inf" if bound == float("inf") else repr(bound), so_far))
        self.metric.add_metric([self._node, *labels], buckets, total)


class SnapshotCollector(Collector):
    """The metrics of one snapshot: a status, its figures, and its age in seconds."""

    def __init__(self, status: Mapping[str, Any], figures: Mapping[str, Any], age: float) -> None:
        self._status = status
        self._figures = figures
        self._age = age
        self._families = {name: _Family(name, str(status.get("node", ""))) for name in names.ALL}

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, also those without samples: a dashboard finds their names."""
        self._daemon()
        for service in self._status.get("services", ()):
            self._service(service, self._figures.get("services", {}).get(service["name"], {}))
        for router in self._status.get("vrrp", ()):
            self._router(router, self._figures.get("vrrp", {}).get(router["name"], {}))
        for family in self._families.values():
            yield family.metric

    def _add(self, name: Name, value: float | None, *labels: str) -> None:
        self._families[name].add(value, *labels)

    def _daemon(self) -> None:
        status, figures, config = self._status, self._figures, self._status.get("config", {})
        self._families[names.INFO].tell(str(status.get("version", "")))
        self._families[names.CONFIG_INFO].tell(str(config.get("sha256", "")))
        self._add(names.UPTIME, status.get("uptime_s"))
        self._add(names.RELOAD_OK, float(bool(config.get("valid"))))
        self._add(names.OVERRIDES, config.get("overrides"))
        self._add(names.OVERRIDE_AGE, figures.get("override_age_s"))
        self._add(names.RESTARTS, figures.get("worker_restarts"))
        self._add(names.SNAPSHOT_AGE, round(self._age, 3))
        for process, (now, most) in figures.get("files", {}).items():
            self._add(names.OPEN_FILES, now, process)
            self._add(names.OPEN_FILES_LIMIT, most, process)
        for reason, count in figures.get("web_refused", {}).items():
            self._add(names.WEB_REFUSED, count, reason)

    def _service(self, service: Mapping[str, Any], figures: Mapping[str, Any]) -> None:
        name, counters = service["name"], service["counters"]
        rows = figures.get("backends", {})
        counted = [backend for backend in service["backends"] if counts(backend, rows.get(backend["name"], {}))]
        usable = [backend for backend in counted if backend["state"] in {"up", "reserve"}]
        tiers = Tally(backend["tier"] for backend in usable)
        self._add(names.SERVICE_BACKENDS, len(counted), name)
        self._add(names.SERVICE_USABLE, len(usable), name)
        self._add(names.SERVICE_QUORUM, float(max(tiers.values(), default=0) >= service["quorum"]), name)
        self._add(names.SERVICE_ACCEPTED, sum(counters.get(cell, 0) for cell in names.ACCEPTED), name)
        for cell, reason in names.REFUSED.items():
            self._add(names.SERVICE_REFUSED, counters.get(cell), name, reason)
        if service["protocol"] == "dns":
            self._add(names.DNS_RETRIES, counters.get("retries"), name)
            self._add(names.DNS_SERVFAIL, counters.get("servfail"), name)
        if figures.get("udp_sessions_limit") is not None:
            self._add(names.UDP_SESSIONS, figures["udp_sessions"], name)
            self._add(names.UDP_SESSIONS_LIMIT, figures["udp_sessions_limit"], name)
        for backend in service["backends"]:
            self._backend(name, backend, rows.get(backend["name"], {}))

    def _backend(self, service: str, backend: Mapping[str, Any], figures: Mapping[str, Any]) -> None:
        which = service, backend["name"]
        for state in names.STATES:
            self._add(names.BACKEND_STATE, float(backend["state"] == state), *which, state)
        self._add(names.BACKEND_READY, float(backend["admin"] == "ready"), *which)
        self._add(names.BACKEND_STANDBY, float(figures.get("standby", False)), *which)
        self._add(names.BACKEND_CONNECTIONS, backend["active"], *which)
        for reason, count in backend["errors"].items():
            self._add(names.BACKEND_ERRORS, count, *which, reason)
        self._families[names.BACKEND_CONNECT].spread(*latency(figures.get("latency", {})), *which)
        rows, results = figures.get("probes", ()), backend["probes"]
        for number, row in enumerate(rows):
            labels = (*which, str(number + 1), row["type"])
            if len(results) == len(rows):  # the status has no row for a probe that has not run yet
                self._add(names.PROBE_SUCCESS, float(results[number]["ok"]), *labels)
            if row["buckets"]:
                self._families[names.PROBE_SECONDS].spread(
                    zip((*BOUNDS, float("inf")), row["buckets"], strict=True), row["seconds"], *labels
                )
                self._add(names.PROBE_REJECTED, float(row["rejected"]), *labels)
            self._add(names.PROBE_LAG, row["lag"], *labels)

    def _router(self, router: Mapping[str, Any], figures: Mapping[str, Any]) -> None:
        name, peer = router["name"], router.get("peer")
        self._add(names.VRRP_ACTIVE, float(router["state"] == "active"), name)
        self._add(names.VRRP_PRIORITY, router.get("effective_priority"), name)
        self._add(names.VRRP_PEER_AGE, peer.get("last_advert_s") if peer else None, name)
        self._add(names.VRRP_TRANSITIONS, figures.get("transitions"), name)
        self._add(names.VRRP_CONFLICTS, figures.get("conflicts"), name)


def counts(backend: Mapping[str, Any], figures: Mapping[str, Any]) -> bool:
    """Return True if a backend counts for its service: ready, with a weight, and not only in another role."""
    return backend["admin"] == "ready" and backend["weight"] > 0 and not figures.get("standby", False)


def latency(cells: Mapping[str, int]) -> tuple[list[tuple[float, float]], float]:
    """Return a latency histogram in buckets of powers of two, and the sum of the times in seconds.

    The ends of these buckets are ends of the counted cells, too, so each count is exact.  The sum takes each cell's
    middle: a cell is at most a quarter of its value wide.
    """
    found = [0.0] * (len(POWERS) + 1)
    total = 0.0
    for text, count in cells.items():
        low, high = bounds(min(int(text), CELLS - 1))
        power = (high - 1).bit_length()
        found[min(max(power - POWERS[0], 0), len(POWERS))] += count
        total += count * (low + high) / 2e6
    ends = [*((1 << power) / 1e6 for power in POWERS), float("inf")]
    return list(zip(ends, found, strict=True)), total
