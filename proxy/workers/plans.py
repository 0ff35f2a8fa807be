"""From the effective configuration to what the children work from: plans for workers, targets for health.  Pure."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from proxy.backends.effective import Running, written
from proxy.config.model import Backend, Config, Service
from proxy.config.types import parse_endpoint
from proxy.relay.plan import (
    BackendPlan,
    DnsPlan,
    LimitsPlan,
    LogPlan,
    PersistencePlan,
    Plan,
    ServicePlan,
    TcpPlan,
    UdpPlan,
)
from proxy.relay.transparent import STOCK
from proxy.stats.layout import Layout
from proxy.status.snapshot import BackendKey, Verdict

if TYPE_CHECKING:
    from health.state import Require

SPARE_FILES = 512  # descriptors of a worker that its connections leave alone
FILES_A_CONNECTION = 2
TRACKED = "probe "
CLIENTS = 1 << 16  # of one worker that the others can see; more are bounded by each worker alone
LEAST_CONNECTIONS = 32  # a worker that can have fewer is not worth its start


def least_files(config: Config) -> int:
    """Return how many descriptors a process must be able to have: every member, and something to serve with."""
    listeners = sum(len(service.listeners) for service in config.services)
    return listeners * config.node.workers + _spare(config) + FILES_A_CONNECTION * LEAST_CONNECTIONS


def most_connections(config: Config, open_files: int) -> int:
    """Return how many connections one worker may have open at a time."""
    listeners = sum(len(service.listeners) for service in config.services)
    affordable = max(1, (open_files - _spare(config) - listeners * config.node.workers) // FILES_A_CONNECTION)
    if config.node.max_connections is None:
        return affordable
    return min(affordable, _share(config.node.max_connections, config.node.workers))


def _spare(config: Config) -> int:
    """Return the descriptors that connections leave alone: a worker's own, and its stocks of transparent sockets."""
    kinds = {
        (":" in listener.address, listener.transport)
        for service in config.services
        if service.transparent
        for listener in service.listeners
    }
    return SPARE_FILES + STOCK * len(kinds)


def tcp_plan(service: Service) -> TcpPlan:
    """Return a service's TCP timers; a DNS service's idle time is that of DNS over TCP (RFC 7766, section 6.2.3)."""
    tcp = service.tcp
    idle = service.dns.idle_timeout if service.protocol == "dns" else tcp.idle_timeout
    return TcpPlan(tcp.connect_timeout, idle, tcp.fin_timeout, tcp.keepalive, tcp.user_timeout)


def clients(config: Config) -> int:
    """Return how many clients' connections a worker tells the others of."""
    return CLIENTS if any(service.max_connections_per_client for service in config.services) else 0


def limits_plan(service: Service) -> LimitsPlan:
    """Return what a service takes; who waits for a backend's slot waits as long as for a connect, unless told."""
    queue = service.queue
    return LimitsPlan(
        queue_size=queue.size,
        connections=service.max_connections,
        per_client=service.max_connections_per_client,
        rate=service.rate_per_client or 0.0,
        errors=service.eject.errors,
        errors_within=service.eject.time,
        queue_timeout=service.tcp.connect_timeout if queue.timeout is None else queue.timeout,
    )


def persistence_plan(service: Service) -> PersistencePlan | None:
    """Return how clients of a service keep their backends."""
    kept = service.persistence
    return PersistencePlan(kept.timeout, kept.ipv4_prefix, kept.ipv6_prefix) if kept else None


def plan(running: Running, generation: int, layout: Layout, open_files: int, salt: str = "") -> Plan:
    """Return what one worker serves; what is known of the backends follows as `messages.Verdicts`."""
    config = running.config
    return Plan(
        generation=generation,
        layout=layout,
        max_connections=most_connections(config, open_files),
        salt=salt,
        services=tuple(service_plan(service, running) for service in config.services),
        log=log_plan(config),
    )


def service_plan(service: Service, running: Running, weights: Mapping[str, int] | None = None) -> ServicePlan:
    """Return what a worker does for one service; `weights` are those in effect, by backend, if they are known."""
    slots, backends = running.slots
    scale = running.scales[service.name]
    weights = weights or {}
    return ServicePlan(
        slot=slots[service.name],
        name=service.name,
        protocol=service.protocol,
        scheduler=service.scheduler,
        hash_on=service.hash_on,
        on_down=service.on_down,
        on_failback=service.on_failback,
        backends=tuple(
            BackendPlan(
                slot=backends[service.name, backend.name],
                name=backend.name,
                address=backend.address,
                port=backend.port,
                weight=weights.get(backend.name, backend.weight * scale),
                admin=backend.admin,
                send_proxy=backend.send_proxy,
                source_addresses=backend.source_addresses,
                max_connections=backend.max_connections,
            )
            for backend in service.backends
        ),
        tcp=tcp_plan(service),
        udp=UdpPlan(
            service.udp.idle_timeout,
            _share(service.udp.max_sessions, running.config.node.workers),
            service.udp.when_full,
            service.udp.per_datagram,
        ),
        dns=DnsPlan(service.dns.retry_after, service.dns.give_up, service.dns.client_subnet == "on"),
        allow=service.allow,
        deny=service.deny,
        accept_proxy=service.accept_proxy,
        limits=limits_plan(service),
        transparent=service.transparent,
        persistence=persistence_plan(service),
        weight_scale=scale,
    )


def log_plan(config: Config) -> LogPlan:
    """Return how the connection log is written."""
    log = config.log
    to, address, port = log.connections_to, "", 0
    if to.startswith("udp://"):
        address, written = parse_endpoint(to.removeprefix("udp://"))
        to, port = "", written or 0
    return LogPlan(log.connections, log.format, to, address, port, config.node.name)


def log_path(config: Config) -> str | None:
    """Return the file that the connection log goes to, None if it goes to none."""
    to = config.log.connections_to
    return to if to.startswith("/") and config.log.connections != "off" else None


def targets(
    running: Running,
    verdicts: Mapping[BackendKey, Verdict],
    tracked: Mapping[str, Verdict],
    resting: Collection[BackendKey] = (),
) -> list[dict[str, Any]]:
    """Return what health watches, and what is known of it.

    Those in `resting` are in maintenance, and not watched.  A backend's key is "SERVICE/BACKEND", that of a probe which
    virtual routers track TRACKED and its name.
    """
    watched = {key: backend for key, backend in running.backends.items() if key not in resting}
    return [
        {
            **target(running.services[key[0]], backend),
            "state": known.state if (known := verdicts.get(key)) else "unknown",
            "weight": known.weight if known else None,
        }
        for key, backend in watched.items()
    ] + [
        {
            "key": f"{TRACKED}{name}",
            "service": "",
            "name": name,
            "address": probe.address or "",
            "port": probe.port or 0,
            "probes": [probe.model_dump(mode="json", by_alias=True)],
            "require": "all",
            "state": tracked[name].state if name in tracked else "unknown",
            "weight": None,
        }
        for name, probe in running.config.probes.items()
    ]


def target(service: Service, backend: Backend) -> dict[str, Any]:
    """Return one backend as `health.monitor.Target` is built from."""
    require: Require = service.probe_require
    return {
        "key": written((service.name, backend.name)),
        "service": service.name,
        "name": backend.name,
        "address": backend.address,
        "port": backend.port or service.listeners[0].port,
        "probes": [probe.model_dump(mode="json", by_alias=True) for probe in backend.probes],
        "require": require,
    }


def _share(whole: int, parts: int) -> int:
    return -(-whole // parts)
