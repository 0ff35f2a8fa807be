"""Predicts a client's backend from the current selector, without taking a turn or changing a count."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from proxy.balance import names
from proxy.balance.backend import Backend
from proxy.balance.failover import Failover
from proxy.balance.standby import WithStandbys
from proxy.balance.trivial import Nobody, Only
from proxy.relay.native.dns_listener import Listener as DnsListener
from proxy.relay.native.one_way import PerDatagramListener
from proxy.relay.native.tcp_listener import TcpListener
from proxy.relay.native.udp import UdpListener
from proxy.relay.observe.ended import endpoint
from proxy.relay.service import Service

if TYPE_CHECKING:
    from proxy.relay.target import Target

Polled = DnsListener | UdpListener | PerDatagramListener | TcpListener

_SETTLED: Final = (Only, Failover, Nobody)
"""Selectors without a key whose answer is always the same."""
_REMEMBERING: Final = frozenset({names.DESTINATION_AFFINITY, names.DESTINATION_AFFINITY_REPLICATED})
"""Schedulers whose answer depends on each worker's table, and changes it."""


def foretell(listener: Polled, host: str, port: int, name: str) -> dict[str, Any]:
    """Return what would happen to a new client of this listener; `port` 0 and `name` "" mean not given.

    `backend` is None if no backend is usable, if it depends on the turn (then `certain` is false), or if the key needs
    more input, which `error` names. `persistent` means that the client has a template. `standbys` are tried, tier by
    tier, if no candidate can be reached.
    """
    service = _service(listener)
    selector, plan = service.selector, service.plan
    serving = selector.serving if isinstance(selector, WithStandbys) else selector
    told: dict[str, Any] = {
        "service": plan.name,
        "client": endpoint(host, port) if port else host,
        "listener": listener.member.text,
        "scheduler": plan.scheduler,
        "hash_on": plan.hash_on if selector.needs_key else None,
        "key": None,
        "permitted": service.access.permits(host),
        "backend": None,
        "certain": isinstance(serving, _SETTLED) or (selector.needs_key and plan.scheduler not in _REMEMBERING),
        "persistent": False,
        "candidates": _rows(selector.backends, plan.weight_scale),
        "standbys": _rows(selector.standbys, plan.weight_scale),
    }
    kept = service.persistence.peek(service.persistence.key(host)) if service.persistence is not None else None
    if kept is not None:
        return {**told, "backend": kept.name, "certain": True, "persistent": True}
    if selector.needs_key:
        lacking = {"source-port": not port, "query-name": not name}.get(plan.hash_on, False)
        if lacking:
            what = "the client's port: CLIENT:PORT" if plan.hash_on == "source-port" else "a name: --query"
            return {**told, "error": f'hash-on = "{plan.hash_on}" needs {what}'}
        asked = question(name) if isinstance(listener, DnsListener) else None
        told["key"] = service.key(listener.route, (host, port), asked)
    if told["certain"]:
        target = selector.pick(told["key"] or 0, ())
        told["backend"] = target.name if target is not None else None
    return told


def _rows(backends: Sequence[Backend], scale: int) -> list[dict[str, Any]]:
    return [
        {
            "name": one.name,
            "address": one.address,
            "weight": _weight(one.weight, scale),
            "active": one.active + one.elsewhere,
        }
        for one in cast("Sequence[Target]", backends)
    ]


def _weight(weight: int, scale: int) -> float:
    """Return a weight in the configuration's units: whole, except during slow start."""
    return weight / scale if weight % scale else weight // scale


def _service(listener: Polled) -> Service:
    match listener:
        case DnsListener():
            return cast("Service", listener.dns.service)
        case UdpListener() | PerDatagramListener():
            return listener.udp.service
        case TcpListener():
            return cast("Service", listener.tcp.service)


def question(name: str) -> bytes:
    """Return a name in wire format, followed by a type and class."""
    labels = [label.encode("ascii")[:63] for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0\0\1\0\1"
