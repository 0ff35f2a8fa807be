"""What metrics show besides the status: numbers for machines that would only fill a screen.

Like the status, every value is that of the snapshot's instant, and counters never go back over reload and reexec.
"""

from typing import TypedDict


class ProbeFigures(TypedDict):
    """One probe of one backend, in the order of the file."""

    type: str
    buckets: list[float]
    """How many runs took at most so many seconds, by `health.timing.BOUNDS`, each run in one bucket; the last has the rest.

    Empty before the first run.
    """
    seconds: float
    """The sum of their times."""
    rejected: bool
    """Whether the server refused the login at the last run."""
    lag: float | None
    """Seconds that the backend's data is behind; None for a probe that does not measure it."""


class BackendFigures(TypedDict):
    """One backend: its latencies since the start, by bucket of `proxy.stats.histogram`, as text; and its probes, all of them.

    `standby`: it is down only because it has another role than the wanted one.
    """

    standby: bool
    latency: dict[str, int]
    probes: list[ProbeFigures]


class ServiceFigures(TypedDict):
    """One service; `udp_sessions_limit` is None where there are no UDP sessions."""

    udp_sessions: int
    udp_sessions_limit: int | None
    backends: dict[str, BackendFigures]


class RouterFigures(TypedDict):
    """One virtual router."""

    transitions: int
    conflicts: int


class Figures(TypedDict):
    """All figures; `files` has (open, limit) by process."""

    services: dict[str, ServiceFigures]
    vrrp: dict[str, RouterFigures]
    worker_restarts: int
    files: dict[str, tuple[int, int]]
    override_age_s: float | None
    web_refused: dict[str, int]
