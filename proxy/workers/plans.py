"""Turns the effective configuration into the plans of workers.  Pure."""

from collections.abc import Mapping

from proxy.backends.effective import Running
from proxy.config.model import Backend, Config, Service
from proxy.config.types import parse_endpoint
from proxy.host.descriptors import _share, most_connections
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
from proxy.stats.layout import Layout

CLIENTS = 1 << 16
"""Clients of one worker whose connections the others can see; each worker alone limits those beyond."""


def tcp_plan(service: Service) -> TcpPlan:
    """Return a service's TCP timers; a DNS service's idle time is that of DNS over TCP (RFC 7766, section 6.2.3)."""
    tcp = service.tcp
    idle = service.dns.idle_timeout if service.protocol == "dns" else tcp.idle_timeout
    return TcpPlan(
        tcp.connect_timeout, idle, tcp.fin_timeout, tcp.keepalive, tcp.user_timeout, tcp.max_lifetime, tcp.quiet
    )


def limits_plan(service: Service) -> LimitsPlan:
    """Return a service's limits; a client waits connect-timeout for a backend's slot, unless the file has another time."""
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
    """Return what one worker serves; the verdicts follow in a `Verdicts` message."""
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
    """Return one service's part of the plan; `weights` are those in effect, by backend, if they are known."""
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
                max_connections=limit(backend),
                tier=backend.tier,
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
    """Return the path of the connection log's file, None without one."""
    to = config.log.connections_to
    return to if to.startswith("/") and config.log.connections != "off" else None


def limit(backend: Backend) -> int:
    """Return how much may be open on a backend; 0 is unlimited.

    `max-outstanding` is for DNS, where a backend's limit counts queries in flight: the smaller of the two applies.
    """
    return min((one for one in (backend.max_connections, backend.max_outstanding) if one), default=0)
