"""Warnings about settings that are legal but unwise: each says what will happen, and what to write instead."""

import ipaddress
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from health.spec import MysqlProbe, PgsqlProbe, ProbeBase, RedisProbe, TcpProbe
from health.units import format_duration
from proxy.balance.names import DESTINATION_HASH, UNSHARED
from proxy.config.diagnostics import Report
from proxy.config.model import Config, Listener, Service, Vrrp
from proxy.config.positions import Spot, Tab
from proxy.config.validate import locate
from proxy.words import counted
from vrrp.fitness import OWNER

MAIL_PORTS: Final = {
    25: "SMTP",
    465: "SMTP",
    587: "SMTP",
    110: "POP3",
    995: "POP3",
    143: "IMAP",
    993: "IMAP",
    4190: "ManageSieve",
}
MYSQL_PORT: Final = 3306
SHORT_LIFE: Final = 60.0  # seconds
REDIS_PING: Final = 10.0  # seconds: Redis's default of repl-ping-replica-period

_PRIVATE: Final = [
    ipaddress.ip_network(block)
    for block in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "::1/128", "fc00::/7", "fe80::/10",
    )
]  # fmt: skip


def warn(config: Config, services: Mapping[str, Tab], routers: Mapping[str, Tab], main: str, report: Report) -> None:
    """Report unwise settings of a configuration without errors; the tables are merged, by name; `main` is the main file."""
    for service in config.services:
        tab = services[service.name]
        _mail(service, tab, report)
        _mysql(service, tab, report)
        _open_dns(service, tab, report)
        _no_probe(service, tab, report)
        _no_weight(service, tab, report)
        _quorum(service, tab, report)
        _no_destination(service, tab, report)
        _no_effect(service, tab, report)
        _short_lives(service, tab, report)
    for router in config.vrrp:
        _track(router, routers[router.name], report)
        _link_local(router, routers[router.name], report)
        _owner(router, routers[router.name], report)
    if not config.services and not config.vrrp:
        report.plain("warning", main, (1, 1), "neither [service.NAME] nor [vrrp.NAME]: there is nothing to run")


def warn_of_probe(spec: ProbeBase, tab: Tab, spot: Spot, report: Report) -> None:
    """Report unwise settings of one probe with its backend's address; `tab` is its merged table, `spot` its place."""
    if spec.tls != "off" and spec.tls_verify and spec.tls_name is None and getattr(spec, "host", None) is None:
        report.warn(
            tab.spots.get("tls", spot),
            "without tls-name the certificate must contain the backend's address, and few certificates do",
            'set tls-name = "…", the name that clients use',
        )
    if isinstance(spec, RedisProbe) and spec.max_lag is not None and spec.max_lag <= REDIS_PING:
        report.warn(
            tab.spots.get("max-lag", spot),
            f"a Redis primary at rest sends something every {REDIS_PING:g} s, so that a lag up to this says nothing",
            f'max-lag = "{3 * REDIS_PING:g}s", or a shorter repl-ping-replica-period on the primary',
        )
    # A mysql or pgsql probe sends its password only over verified TLS, so it needs no warning.
    careful = isinstance(spec, MysqlProbe | PgsqlProbe)
    if getattr(spec, "password_file", None) is None or careful or _is_loopback(spec.address):
        return
    if spec.tls == "off":
        message, hint = (
            "in clear text: anybody on the network path can read it",
            'tls = "starttls" or tls = "implicit", with tls-name',
        )
    elif not spec.tls_verify:
        message, hint = (
            "to any server that answers, because tls-verify is off",
            "set tls-name and tls-ca-file, and remove tls-verify = false",
        )
    else:
        return
    report.warn(tab.spots.get("password-file", spot), f"this {spec.type} probe sends its password {message}", hint)


def _is_loopback(address: str | None) -> bool:
    return address is not None and ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _quorum(service: Service, tab: Tab, report: Report) -> None:
    tiers = Counter(backend.tier for backend in service.backends)
    most = max(tiers.values(), default=0)
    if service.backends and service.quorum > most:
        report.warn(
            _spot(tab, "quorum"),
            f"quorum = {service.quorum}, and no tier has more than {counted(most, 'backend')}: it is never met",
            "then all usable backends of every tier serve, no matter what has failed",
        )


def _spot(tab: Tab, *path: str | int) -> Spot:
    return locate(tab, path)[1]


def _ports(listeners: Iterable[Listener], transport: str) -> set[int]:
    return {listener.port for listener in listeners if listener.transport == transport}


def _mail(service: Service, tab: Tab, report: Report) -> None:
    ports = sorted(_ports(service.listeners, "tcp") & MAIL_PORTS.keys())
    blind = not service.transparent and any(backend.send_proxy == "off" for backend in service.backends)
    if not ports or not blind:
        return
    shown = ", ".join(f"{MAIL_PORTS[port]} {port}" for port in ports)
    what = (
        "a server that trusts its neighbours becomes an open relay"
        if any(MAIL_PORTS[port] == "SMTP" for port in ports)
        else ""
    )
    consequence = what or "limits and logs by address no longer work"
    report.warn(
        _spot(tab, "listen"),
        f"mail ({shown}) without the client's address: the servers see the balancer's address for every client, and {consequence}",
        'send-proxy = "v2" or transparent = true',
    )


def _mysql(service: Service, tab: Tab, report: Report) -> None:
    for backend in service.backends:
        own = any(isinstance(probe, TcpProbe) and probe.port == MYSQL_PORT for probe in backend.probes)
        if own:
            spot = _spot(tab, "probe") if "probe" in tab else _spot(tab, "listen")
            report.warn(
                spot,
                "a bare tcp probe on 3306: MySQL counts each probe as an interrupted login and blocks this host after max_connect_errors",
                'a probe of type "mysql" logs in; without it, set skip_name_resolve or a large max_connect_errors on the servers',
            )
            return


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    return not any(found in block for block in _PRIVATE if block.version == found.version)


def _open_dns(service: Service, tab: Tab, report: Report) -> None:
    if service.protocol != "dns" or service.allow:
        return
    public = [listener for listener in service.listeners if _is_public(listener.address)]
    if public:
        report.warn(
            _spot(tab, "listen"),
            f"DNS on {public[0].text} is open to everybody: an open resolver takes part in amplification attacks",
            'set allow = ["10.0.0.0/8"] (your clients), or listen on a private address; an authoritative server may ignore this',
        )


def _no_probe(service: Service, tab: Tab, report: Report) -> None:
    if "probe" in tab or not _ports(service.listeners, "udp") or service.protocol == "dns":
        return
    if any(probe.type != "none" for backend in service.backends for probe in backend.probes):
        return
    report.warn(
        _spot(tab, "listen"),
        f"[service.{service.name}] is UDP and has no probe: a dead backend keeps its share of the traffic",
        'probe = { type = "udp", send = "…" } asks the backend; { type = "none" } says that this is intended',
    )


def _no_weight(service: Service, tab: Tab, report: Report) -> None:
    if all(backend.weight == 0 for backend in service.backends):
        report.warn(
            _spot(tab, "backends"), f"every backend of [service.{service.name}] has weight 0: none gets traffic"
        )


def _no_destination(service: Service, tab: Tab, report: Report) -> None:
    if service.scheduler == DESTINATION_HASH and service.hash_on.startswith("source"):
        report.warn(
            _spot(tab, "scheduler"),
            f'destination-hash with hash-on = "{service.hash_on}" hashes the client: it does what source-hash does',
            'hash-on = "query-name" (dns) or "listener"',
        )


def _short_lives(service: Service, tab: Tab, report: Report) -> None:
    times = service.tcp
    if times.max_lifetime < SHORT_LIFE:
        report.warn(
            _spot(tab, "tcp", "max-lifetime"),
            f"connections live for {format_duration(times.max_lifetime)}: clients connect anew all the time",
            'max-lifetime = "1h" brings load back to a server within an hour',
        )
    elif times.quiet >= times.idle_timeout and times.max_lifetime < math.inf:
        report.warn(
            _spot(tab, "tcp"),
            "max-lifetime has no effect: quiet is not below idle-timeout, which ends a quiet connection first",
            'quiet = "5s"',
        )


def _no_effect(service: Service, tab: Tab, report: Report) -> None:
    if service.queue.size and not any(backend.max_connections for backend in service.backends):
        report.warn(
            _spot(tab, "queue"),
            "no connection will ever wait in this queue: no backend has max-connections",
            "backend-defaults = { max-connections = 100 }",
        )
    if service.scheduler in UNSHARED and service.weight_from != "off":
        report.warn(
            _spot(tab, "weight-from"),
            f"weight-from has no effect with {service.scheduler}: this scheduler knows no shares that could change",
        )
    if service.scheduler in UNSHARED and any(backend.slow_start for backend in service.backends):
        report.warn(
            _spot(tab, "scheduler"),
            f"slow-start has no effect with {service.scheduler}: this scheduler knows no shares that could grow",
        )


def _track(router: Vrrp, tab: Tab, report: Report) -> None:
    for index, track in enumerate(router.track):
        if track.service is not None and track.penalty is None:
            report.warn(
                _spot(tab, "track", index),
                "this service is tracked without a penalty: when it fails, both hosts go into fault and no host holds the address",
                f'{{ service = "{track.service}", penalty = 60 }}',
            )


def _owner(router: Vrrp, tab: Tab, report: Report) -> None:
    if router.priority == OWNER:
        report.warn(
            _spot(tab, "priority"),
            "priority 255 says that the host has these addresses for good: no standby, penalty or fault moves them away",
            "254 is the highest priority of a host that gives them up",
        )


def _link_local(router: Vrrp, tab: Tab, report: Report) -> None:
    first = next((address for address in router.addresses if ":" in address), None)
    if first is not None and not ipaddress.ip_interface(first).is_link_local:
        report.warn(
            _spot(tab, "addresses"),
            "the first IPv6 address is not link-local: RFC 9568 (section 5.2.9) requires a link-local one first, and some peers insist on it",
            'put, for instance, "fe80::10/64" before the other IPv6 addresses',
        )
