"""Which rows the list has, in which order: filter, sort, folds [pure]."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from proxy.dashboard.history import History, Key, service_latency
from proxy.dashboard.judging import SERVICE_RANKS, rank, troubled
from proxy.status.schema import BackendStatus, ServiceStatus, Status

ORDERS: Final = ("worst", "name", "rate", "open", "latency", "errors")


@dataclass(frozen=True, slots=True)
class View:
    """What an operator chose to see. `folds` are the services that were folded (True) or unfolded (False) by hand."""

    words: str = ""
    order: str = ORDERS[0]
    trouble: bool = False
    folds: Mapping[str, bool] = field(default_factory=dict)

    def next_order(self) -> "View":
        """Return the view in the next order."""
        return replace(self, order=ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)])

    def folding(self, services: Sequence[str], *, fold: bool) -> "View":
        """Return the view with some services folded, or not."""
        return replace(self, folds={**self.folds, **dict.fromkeys(services, fold)})


class Row(NamedTuple):
    """A service, or one of its backends."""

    service: ServiceStatus
    backend: BackendStatus | None = None
    folded: bool = False
    hidden: int = 0
    """Backends of a service that the filter hides."""

    @property
    def key(self) -> Key:
        """The names that a row keeps from snapshot to snapshot."""
        return self.service["name"], None if self.backend is None else self.backend["name"]


def rows(status: Status, view: View, history: History, room: int) -> list[Row]:
    """Return the rows of the list.

    While not everything fits into `room` lines, services that are well are folded unless an operator unfolded them.
    """
    wanted = view.words.lower().split()
    services = [
        (service, found)
        for service in status["services"]
        if (found := _matching(service, wanted, trouble=view.trouble)) is not None
    ]
    everything = sum(1 + len(found) for _, found in services)
    services = [(service, _sorted(service, found, view.order, history)) for service, found in services]
    services.sort(key=lambda pair: _service_rank(pair[0], view.order, history))
    shown: list[Row] = []
    for service, found in services:
        well = service["state"] == "up" and not any(rank(one, service, history) in {0, 1, 2} for one in found)
        fold = view.folds.get(service["name"], everything > room and well and not wanted)
        shown.append(Row(service, None, fold, len(service["backends"]) - len(found)))
        if not fold:
            shown += [Row(service, backend) for backend in found]
    return shown


def _matching(service: ServiceStatus, words: Sequence[str], *, trouble: bool) -> list[BackendStatus] | None:
    """Return the backends that match, None if neither they nor the service do; a matching service shows all of its own."""
    found = service["backends"]
    if trouble:
        found = [one for one in found if troubled(one)]
        if not found and service["state"] == "up":
            return None
    if not words:
        return found
    own = _text(service["name"], service["state"], service["protocol"], *service["listen"])
    kept = [one for one in found if all(word in own or word in _of(one) for word in words)]
    return kept if kept or all(word in own for word in words) else None


def _of(backend: BackendStatus) -> str:
    return _text(backend["name"], backend["address"], backend["state"], backend["admin"], backend["reason"])


def _text(*parts: str) -> str:
    return "\n".join(parts).lower()


def _sorted(
    service: ServiceStatus, found: Sequence[BackendStatus], order: str, history: History
) -> list[BackendStatus]:
    match order:
        case "name":
            return sorted(found, key=lambda one: one["name"])
        case "rate":
            return sorted(found, key=lambda one: -one["rate"])
        case "open":
            return sorted(found, key=lambda one: -one["active"])
        case "latency":
            return sorted(found, key=lambda one: -(one["latency_ms"]["p99"] or 0.0))
        case "errors":
            return sorted(found, key=lambda one: -(history.errors(service["name"], one["name"]) or 0.0))
    return sorted(found, key=lambda one: rank(one, service, history))


def _service_rank(service: ServiceStatus, order: str, history: History) -> tuple[float, str]:
    """Return the key by which services are sorted; those that are equal stay in the file's order, but by name."""
    match order:
        case "name":
            return 0, service["name"]
        case "rate":
            return -sum(one["rate"] for one in service["backends"]), ""
        case "open":
            return -sum(one["active"] for one in service["backends"]), ""
        case "latency":
            return -(service_latency(service)[1] or 0.0), ""
        case "errors":
            return -(history.errors(service["name"]) or 0.0), ""
    state = service["state"]
    return SERVICE_RANKS.index(state) if state in SERVICE_RANKS else 0, ""
