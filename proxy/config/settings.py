"""The tables whose written and effective forms are the same: [node], [control], [web], [log] and a service's settings.

Durations are seconds, `math.inf` for "never". The defaults are those of the reference; None means that the default depends
on another value, which the field's comment names.
"""

import math
import os
import pwd
import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from health.measure import WeightFrom
from health.units import AbsolutePath, Address, Bool, Duration, Int, Port, SecretFile, Table, mistake
from proxy.balance.names import ALIASES, SCHEDULERS, canonical
from proxy.config.diagnostics import did_you_mean
from proxy.config.types import NAME_PATTERN, Binds, Cidr, LogTarget, MemberAddress, Rate, Share

SocketPath = AbsolutePath
Count = Annotated[Int, Field(ge=0, le=1_000_000_000)]
Timer = Annotated[Duration, Field(ge=0.001)]
"""A duration above zero."""


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def default_user() -> str:
    """Return the default user of workers and probes when the daemon starts as root."""
    try:
        pwd.getpwnam("steelyard")
    except KeyError:
        return "nobody"
    return "steelyard"


_USER: Final = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?$"  # the names that Debian's adduser accepts


def _user_name(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(_USER, value):
        raise mistake(f'"{value[:40]}" is not a valid user name: ASCII letters, digits, ".", "_", "-", at most 32')
    return value


class NodeSettings(Table):
    """[node]: this host."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    workers: Annotated[Int, Field(ge=1, le=256)] = Field(default_factory=_processors)
    user: Annotated[str, Field(pattern=_USER), BeforeValidator(_user_name)] = Field(default_factory=default_user)
    state_dir: AbsolutePath = "/var/lib/steelyard"
    stop_timeout: Duration = 30.0
    reexec_timeout: Duration = 3600.0
    max_connections: Annotated[Int, Field(ge=1, le=100_000_000)] | None = None  # from the limit of open files


class ControlSettings(Table):
    """[control]: the socket that the commands talk to."""

    socket: SocketPath = "/run/steelyard/control.sock"
    group: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.socket.encode()) > 107:  # noqa: PLR2004 - sun_path, unix(7)
            raise mistake("the path of a unix socket has at most 107 bytes", "socket")
        return self


class WebSettings(Table):
    """[web]: metrics, status and the page, read-only."""

    listen: Binds = ("127.0.0.1:9600",)
    allow: tuple[Cidr, ...] = ("127.0.0.0/8", "::1/128")


Shared = Literal["acts", "verdicts", "persistence", "timeline"]
"""What the hosts of a pair tell each other."""


class PairSettings(Table):
    """[pair]: the link to the other host."""

    members: dict[str, MemberAddress]
    port: Port = 9601
    certificate: SecretFile | None = None
    peer_certificate: SecretFile | None = None
    share: tuple[Shared, ...] = ("acts", "verdicts", "persistence", "timeline")

    def peer_of(self, node: str) -> str:
        """Return the name of the other host."""
        return next(name for name in self.members if name != node)


class LogSettings(Table):
    """[log]: what is written where."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    connections: Literal["off", "failed", "all"] = "failed"
    connections_to: LogTarget = "stdout"


class TcpSettings(Table):
    """A service's TCP timers."""

    connect_timeout: Annotated[Timer, Field(le=3600.0)] = 3.0
    idle_timeout: Timer = 3600.0
    fin_timeout: Timer = 30.0
    keepalive: Annotated[Duration, Field(ge=1.0)] = 120.0
    user_timeout: Timer = 30.0
    backlog: Annotated[Int, Field(ge=1, le=65535)] = 4096
    max_lifetime: Annotated[Duration, Field(ge=1.0)] = math.inf
    quiet: Annotated[Timer, Field(le=3600.0)] = 5.0


class UdpSettings(Table):
    """A service's UDP sessions."""

    idle_timeout: Timer = 120.0
    max_sessions: Annotated[Int, Field(ge=1, le=10_000_000)] = 65536
    when_full: Literal["drop-new", "evict-idle"] = "drop-new"
    per_datagram: Bool = False


class DnsSettings(Table):
    """How a service with protocol = "dns" relays queries."""

    retry_after: Annotated[Timer, Field(le=60.0)] = 0.4
    give_up: Annotated[Timer, Field(le=60.0)] = 4.5
    idle_timeout: Timer = 10.0
    client_subnet: Literal["off", "on"] = "off"

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.retry_after >= self.give_up:
            raise mistake(
                f"retry-after ({self.retry_after:g}s) is not below give-up ({self.give_up:g}s): no query would ever be retried",
                "retry-after",
            )
        return self


class Persistence(Table):
    """Keep a client's network on one backend."""

    timeout: Timer
    ipv4_prefix: Annotated[Int, Field(ge=1, le=32)] = 32
    ipv6_prefix: Annotated[Int, Field(ge=1, le=128)] = 128


class Queue(Table):
    """Clients that wait for a backend's free slot."""

    size: Count = 0
    timeout: Timer | None = None  # tcp.connect-timeout


class Eject(Table):
    """Leave out a backend that fails real traffic."""

    errors: Count = 0
    time: Timer = 30.0
    max_share: Share = 0.1


def _scheduler(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    name = canonical(value)
    if name is None:
        words = [*SCHEDULERS, *ALIASES]
        hint = did_you_mean(value, words) or f"one of {', '.join(SCHEDULERS)}"
        raise mistake(f'unknown scheduler "{value[:40]}"', hint=hint)
    return name


def _require(value: Any) -> Any:
    if value in ("all", "any") and isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise mistake('probe-require is "all", "any" or the number of probes that must pass')
    if value < 1:
        raise mistake("probe-require must be at least 1")
    return value


Require = Annotated[Literal["all", "any"] | int, BeforeValidator(_require)]
SendProxy = Literal["off", "v1", "v2"]


class ServiceSettings(Table):
    """The settings that [service.NAME] and [defaults] share: all except listeners and backends."""

    protocol: Literal["plain", "dns"] = "plain"
    scheduler: Annotated[str, BeforeValidator(_scheduler), WithJsonSchema({"enum": [*SCHEDULERS, *ALIASES]})] = (
        "least-connections"
    )
    hash_on: Literal["source", "source-port", "listener", "query-name"] = "source"
    persistence: Persistence | None = None
    probe_require: Require = "all"
    quorum: Annotated[Int, Field(ge=1)] = 1
    quorum_hysteresis: Count = 0
    fail_open: Bool = False
    failback: Bool = True
    on_failback: Literal["keep", "reset"] = "keep"
    on_down: Literal["keep", "reset"] = "keep"
    weight_from: WeightFrom = "off"
    peer_verdict: Literal["ignore", "require-both-down"] = "ignore"
    drain_timeout: Duration = 3600.0
    allow: tuple[Cidr, ...] = ()
    deny: tuple[Cidr, ...] = ()
    max_connections: Count = 0
    max_connections_per_client: Count = 0
    rate_per_client: Rate | None = None
    queue: Queue = Queue()
    send_proxy: SendProxy = "off"
    accept_proxy: tuple[Cidr, ...] = ()
    transparent: Bool = False
    source_addresses: tuple[Address, ...] = ()
    eject: Eject = Eject()
    tcp: TcpSettings = TcpSettings()
    udp: UdpSettings = UdpSettings()
    dns: DnsSettings = DnsSettings()

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.hash_on == "query-name" and self.protocol != "dns":
            raise mistake('hash-on = "query-name" needs protocol = "dns": other traffic has no query name', "hash-on")
        if self.transparent and self.source_addresses:
            raise mistake(
                "source-addresses and transparent exclude each other: a connection has only one source address",
                "source-addresses",
            )
        return self
