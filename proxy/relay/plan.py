"""The plan that the master sends to a worker: plain frozen values that travel as JSON.

The relay reads neither the configuration file nor its models.  Durations are in seconds; `inf` is never.
"""

from dataclasses import asdict, dataclass, fields, replace
from math import inf
from typing import Any

from proxy.stats.layout import Layout


@dataclass(frozen=True, slots=True)
class BackendPlan:
    """One real server.  `slot` is its block of counters; `port` None means the listener's."""

    slot: int
    name: str
    address: str
    port: int | None
    weight: int
    state: str = "unknown"
    admin: str = "ready"
    send_proxy: str = "off"
    """The PROXY header before each connection ("v1", "v2") or datagram ("v2")."""
    source_addresses: tuple[str, ...] = ()
    """Local addresses that sockets to this backend are bound to, in turn; if empty, the kernel chooses."""
    max_connections: int = 0
    """The limit for the whole host, over all workers; 0 is unlimited."""
    tier: int = 0
    """Its place among the standbys."""


@dataclass(frozen=True, slots=True)
class TcpPlan:
    """Timers of relayed TCP connections, in seconds."""

    connect_timeout: float
    idle_timeout: float
    fin_timeout: float
    keepalive: float
    user_timeout: float
    max_lifetime: float = inf
    """A connection that is older, and has been quiet for `quiet`, is retired."""
    quiet: float = 5.0


@dataclass(frozen=True, slots=True)
class UdpPlan:
    """Sessions of plain UDP; `max_sessions` is this worker's share of the service's table."""

    idle_timeout: float
    max_sessions: int
    when_full: str
    per_datagram: bool = False
    """True: there are no sessions; each datagram is balanced by itself, and no answers are relayed."""


@dataclass(frozen=True, slots=True)
class DnsPlan:
    """Timers of DNS queries over UDP, in seconds."""

    retry_after: float
    give_up: float
    client_subnet: bool = False
    """True: queries name the client's network (RFC 7871)."""


@dataclass(frozen=True, slots=True)
class LimitsPlan:
    """The limits of a service for the whole host, over all workers.  0 is unlimited; `queue_size` 0 is no queue."""

    queue_size: int = 0
    queue_timeout: float = 3.0
    connections: int = 0
    per_client: int = 0
    rate: float = 0.0
    """New connections, sessions or queries of one client per second."""
    errors: int = 0
    """The worker reports a backend to the master after this many failures in a row; 0: never."""
    errors_within: float = 10.0
    """Two failures that are further apart than this (s) do not count as in a row."""


@dataclass(frozen=True, slots=True)
class PersistencePlan:
    """How long (s) and by how many bits of its address a client keeps its backend."""

    timeout: float
    ipv4_prefix: int
    ipv6_prefix: int


@dataclass(frozen=True, slots=True)
class LogPlan:
    """The connection log: "off", "failed" or "all", in "text" or "json".

    `to` is "stdout", a path (the master opens it and hands the descriptor over), or "" with `address` and `port` of a
    collector of datagrams.
    """

    connections: str = "off"
    format: str = "text"
    to: str = "stdout"
    address: str = ""
    port: int = 0
    node: str = ""


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """One service.  `slot` is its block of counters."""

    slot: int
    name: str
    protocol: str
    scheduler: str
    hash_on: str
    on_down: str
    backends: tuple[BackendPlan, ...]
    tcp: TcpPlan
    udp: UdpPlan
    dns: DnsPlan
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    accept_proxy: tuple[str, ...] = ()
    """Blocks of addresses: `allow` and `deny` clients, and sources that send a PROXY header."""
    on_failback: str = "keep"
    limits: LimitsPlan = LimitsPlan()
    transparent: bool = False
    """Backends see the client's own address."""
    persistence: PersistencePlan | None = None
    weight_scale: int = 1
    """How many units of `weight` here are one unit in the configuration."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that one worker serves.  `max_connections` limits its open connections; `salt` is in hex."""

    generation: int
    layout: Layout
    max_connections: int
    services: tuple[ServicePlan, ...]
    salt: str = ""
    log: LogPlan = LogPlan()


@dataclass(frozen=True, slots=True)
class Member:
    """One socket of a listener's reuseport group.  All members of a `listener` have the same address."""

    listener: int
    index: int
    service: int
    transport: str
    address: str
    port: int

    @property
    def text(self) -> str:
        """The listener as the configuration writes it."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}/{self.transport}"


_BACKEND_FIELDS = tuple(one.name for one in fields(BackendPlan))


def to_tree(plan: Plan) -> dict[str, Any]:
    """Turn a plan into plain values."""
    return {**asdict(replace(plan, services=())), "services": [service_tree(service) for service in plan.services]}


def service_tree(plan: ServicePlan) -> dict[str, Any]:
    """Turn one service's plan into plain values; `asdict` alone would take a thousand backends' time ten times over."""
    backends = [{name: getattr(one, name) for name in _BACKEND_FIELDS} for one in plan.backends]
    return {**asdict(replace(plan, backends=())), "backends": backends}


def from_tree(tree: dict[str, Any]) -> Plan:
    """Read what `to_tree` made.  It comes from the daemon's own master, so a mistake raises KeyError or TypeError."""
    return Plan(
        generation=tree["generation"],
        layout=Layout(**tree["layout"]),
        max_connections=tree["max_connections"],
        services=tuple(service_from_tree(service) for service in tree["services"]),
        salt=tree["salt"],
        log=LogPlan(**tree["log"]),
    )


def service_from_tree(tree: dict[str, Any]) -> ServicePlan:
    """Read back what `service_tree` made."""
    return ServicePlan(
        **{
            **tree,
            "backends": tuple(
                BackendPlan(**{**backend, "source_addresses": tuple(backend["source_addresses"])})
                for backend in tree["backends"]
            ),
            "tcp": TcpPlan(**tree["tcp"]),
            "udp": UdpPlan(**tree["udp"]),
            "dns": DnsPlan(**tree["dns"]),
            "limits": LimitsPlan(**tree["limits"]),
            "persistence": PersistencePlan(**tree["persistence"]) if tree["persistence"] else None,
            **{key: tuple(tree[key]) for key in ("allow", "deny", "accept_proxy")},
        },
    )
