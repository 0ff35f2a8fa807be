"""How the rows of a snapshot are judged: which word, sign and style a state has, and what is worse than what [pure]."""

from typing import Final, NamedTuple

from proxy.dashboard.history import History
from proxy.dashboard.text import Glyphs, Segment, Style, fit
from proxy.status.schema import BackendStatus, ServiceStatus

_STYLES: Final[dict[str, Style]] = {
    "up": "good", "active": "good", "backup": "info", "degraded": "warn", "reserve": "info", "unknown": "warn",
    "init": "warn", "stopping": "bad", "down": "bad", "fault": "bad",
}  # fmt: skip
SERVICE_RANKS: Final = ("stopping", "down", "degraded", "up")
"""The states of services, the worst first."""


class Verdict(NamedTuple):
    """What a row says of a state: words beside a sign, so that no meaning is in the colour alone."""

    sign: str
    words: str
    style: Style

    def fitted(self, cells: int, cut: str) -> Segment:
        """Return the verdict in exactly so many cells."""
        return Segment(fit(f"{self.sign} {self.words}", cells, cut), self.style)


def of_state(state: str, glyphs: Glyphs) -> Verdict:
    """Return the verdict of a service or a router; a state of a later version is shown as it is."""
    signs = {
        "up": glyphs.good, "degraded": glyphs.part, "down": glyphs.bad, "stopping": glyphs.bad,
        "active": glyphs.here, "backup": glyphs.away, "fault": glyphs.bad, "reserve": glyphs.away,
    }  # fmt: skip
    return Verdict(signs.get(state, glyphs.unknown), state, _STYLES.get(state, "warn"))


def of_backend(backend: BackendStatus, service: ServiceStatus, glyphs: Glyphs) -> Verdict:
    """Return the verdict of a backend: the sign is what its probes say, the words begin with what an operator said.

    A backend that is down in a service that is up does not count for it, as a replica where a writer is wanted.
    """
    found = of_state(backend["state"], glyphs)
    admin = backend["admin"]
    if admin == "maint":  # which is not probed
        return Verdict(found.sign, admin, "info")
    if admin != "ready":
        return Verdict(found.sign, admin if backend["state"] == "up" else f"{admin}, {backend['state']}", "info")
    return found._replace(style="dim") if backend["state"] == "down" and service["state"] == "up" else found


def troubled(backend: BackendStatus) -> bool:
    """Return True for a backend that is not simply up: one whose reason a reader wants to see in full."""
    return backend["state"] != "up" or backend["admin"] != "ready" or backend["effective_weight"] <= 0


def rank(backend: BackendStatus, service: ServiceStatus, history: History) -> int:
    """Return how bad a backend is, the worst with 0."""
    if backend["admin"] != "ready":
        return 6
    if backend["state"] == "down":
        return 5 if service["state"] == "up" else 0
    if backend["state"] == "unknown":
        return 1
    if backend["state"] == "up" and backend["effective_weight"] <= 0:
        return 2
    if not all(probe["ok"] for probe in backend["probes"]):
        return 3
    return 4 if history.errors(service["name"], backend["name"]) else 7


def reason(backend: BackendStatus) -> str:
    """Return why a backend is what it is: an operator's words and then the last words of its probes."""
    if backend["admin"] == "ready":
        return backend["reason"]
    by = f" by {backend['admin_by']}" if backend["admin_by"] else ""
    why = f": {backend['admin_reason']}" if backend["admin_reason"] else ""
    said = f"; {backend['reason']}" if backend["reason"] else ""
    return f"{backend['admin']}{by}{why}{said}"


def usable(service: ServiceStatus) -> int:
    """Return how many backends of a service get new clients."""
    return sum(backend["effective_weight"] > 0 for backend in service["backends"])


def unit(service: ServiceStatus) -> str:
    """Return what a service counts a second: queries, connections or sessions."""
    if service["protocol"] == "dns":
        return "q/s"
    return "s/s" if service["listen"] and all(one.endswith("/udp") for one in service["listen"]) else "c/s"
