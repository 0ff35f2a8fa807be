"""What changed from snapshot to snapshot while the dashboard looks: rates, errors a second, results of probes [pure].

A snapshot has totals and rates of one instant. Curves, errors per second and the history of a probe need several; they
begin with the first look. Memory is bounded by what the last snapshot names.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from proxy.dashboard.times import seconds
from proxy.status.schema import BackendStatus, ServiceStatus, Status

CURVE: Final = 120
"""Looks that a curve goes back."""
WINDOW: Final = 10
"""Looks over which errors are averaged: those of one second alone would flicker."""
JITTER: Final = 0.01
"""Seconds by which the time of one result may differ between two snapshots."""
RESULTS: Final = 40
"""Results of probes kept for a backend."""
REFUSALS: Final = ("refused_no_backend", "refused_limit", "refused_client", "table_full", "queue_timeout")
"""Counters of clients that a service served nothing, which no backend counts as an error."""

Key = tuple[str, str | None]
"""A service and a backend; None stands for the service itself."""


class Result(NamedTuple):
    """One result of a probe: the `number` of the probe among those of its backend, `at` in Unix seconds."""

    number: int
    at: float
    type: str
    ok: bool
    reason: str
    latency_ms: float | None


class _Track:
    __slots__ = ("errors", "p50", "p99", "rates", "results")

    def __init__(self) -> None:
        self.rates: deque[float] = deque(maxlen=CURVE)
        self.p50: deque[float] = deque(maxlen=CURVE)
        self.p99: deque[float] = deque(maxlen=CURVE)
        self.errors: deque[tuple[float, int]] = deque(maxlen=WINDOW + 1)
        self.results: deque[Result] = deque(maxlen=RESULTS)


class History:
    """The past of every service and backend of the last snapshot."""

    def __init__(self) -> None:
        self._tracks: dict[Key, _Track] = {}

    def take(self, status: Status, now: float) -> None:
        """Add a snapshot that came at `now`, in seconds of a clock that never goes back."""
        before, self._tracks = self._tracks, {}
        for service in status["services"]:
            errors, rate = sum(service["counters"].get(name, 0) for name in REFUSALS), 0.0
            for backend in service["backends"]:
                key = (service["name"], backend["name"])
                track = self._tracks[key] = before.get(key) or _Track()
                own = sum(backend["errors"].values())
                errors += own
                rate += backend["rate"]
                _add(track, backend["rate"], own, now)
                track.p50.append(backend["latency_ms"]["p50"] or 0.0)
                track.p99.append(backend["latency_ms"]["p99"] or 0.0)
                _results(track, backend)
            whole = (service["name"], None)
            track = self._tracks[whole] = before.get(whole) or _Track()
            _add(track, rate, errors, now)

    def rates(self, service: str, backend: str | None = None) -> Sequence[float]:
        """Return the rates of the past looks, the newest last."""
        track = self._tracks.get((service, backend))
        return () if track is None else list(track.rates)

    def latencies(self, service: str, backend: str) -> tuple[Sequence[float], Sequence[float]]:
        """Return p50 and p99 (ms) of the past looks, the newest last; 0 where there was none."""
        track = self._tracks.get((service, backend))
        return ((), ()) if track is None else (list(track.p50), list(track.p99))

    def errors(self, service: str, backend: str | None = None) -> float | None:
        """Return the errors a second in the last looks; None before the second one."""
        track = self._tracks.get((service, backend))
        if track is None or len(track.errors) < 2:  # noqa: PLR2004 - a difference needs two
            return None
        (then, before), (now, total) = track.errors[0], track.errors[-1]
        return (total - before) / (now - then) if now > then else None

    def results(self, service: str, backend: str) -> Sequence[Result]:
        """Return the results of a backend's probes that were seen, the newest first."""
        track = self._tracks.get((service, backend))
        return () if track is None else list(reversed(track.results))


def _add(track: _Track, rate: float, errors: int, now: float) -> None:
    track.rates.append(rate)
    if track.errors and errors < track.errors[-1][1]:  # the daemon began anew
        track.errors.clear()
    track.errors.append((now, errors))


def _results(track: _Track, backend: BackendStatus) -> None:
    """Add results that are new; a snapshot has the last one of each probe."""
    for number, probe in enumerate(backend["probes"]):
        newest = next((known.at for known in reversed(track.results) if known.number == number), None)
        at = seconds(probe["at"])
        if at is not None and (newest is None or at > newest + JITTER):
            track.results.append(Result(number, at, probe["type"], probe["ok"], probe["reason"], probe["latency_ms"]))


def service_latency(service: ServiceStatus) -> tuple[float | None, float | None]:
    """Return a service's p50 and p99 (ms): the median of its backends' p50, each as often as its rate, and the worst p99.

    The snapshot has no histogram of a service. The worst p99 is an upper bound of the service's own.
    """
    known = sorted(
        (one["latency_ms"]["p50"], one["rate"]) for one in service["backends"] if one["latency_ms"]["p50"] is not None
    )
    worst = max(
        (one["latency_ms"]["p99"] for one in service["backends"] if one["latency_ms"]["p99"] is not None), default=None
    )
    if not known:
        return None, worst
    half = sum(rate for _, rate in known) / 2
    if half <= 0:
        return known[len(known) // 2][0], worst
    for p50, rate in known:
        half -= rate
        if half <= 0:
            return p50, worst
    return known[-1][0], worst
