"""dnsdist's `newServer` as a backend with its probe [pure]."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.config.importers.dnsdist_lua import Call, Table, shown
from proxy.config.importers.draft import Part
from proxy.config.importers.ledger import Handler, Ledger, LeftError, Statement
from proxy.config.importers.values import address, decimal, duration, number
from proxy.config.types import parse_endpoint

PORT: Final = 53
_TLS: Final = "queries go on unencrypted, and over the transport that they came by: TLS of clients is relayed to the servers unchanged"
_LEFT: Final = {
    "retries": "a query goes to another backend after dns.retry-after, until dns.give-up",
    "tcpSendTimeout": "dns.idle-timeout is for both directions", "tcpRecvTimeout": "dns.idle-timeout is for both directions",
    "tcpFastOpen": "no TCP Fast Open", "ipBindAddrNoPort": "always", "checkFunction": "nothing is executed: write a script probe",
    "checkClass": "the class is always IN", "setCD": "the flag CD is not set", "disableZeroScope": "there is no cache",
    "id": "backends have names", "MACAddr": "packets go by the kernel", "xskSockets": "packets go by the kernel",
    "maxConcurrentTCPConnections": "max-connections counts queries, sessions and connections together",
    "maxInFlight": "TCP is relayed connection by connection", "tcpOnly": "clients over TCP are relayed over TCP",
    "addXPF": "send-proxy tells the client's address", "udpTimeout": "dns.give-up is the service's",
    "lazyHealthCheckMode": "probes run all the time; real traffic ejects a backend with `eject`", "autoUpgrade": _TLS,
    "lazyHealthCheckFailedInterval": "probes run all the time", "lazyHealthCheckThreshold": "probes run all the time",
    "lazyHealthCheckSampleSize": "probes run all the time", "lazyHealthCheckMinSampleCount": "probes run all the time",
    "useProxyProtocolTLV": "there is nothing else to report", "cpus": "the kernel chooses the processors",
}  # fmt: skip
_ALWAYS: Final = frozenset(("sockets", "reconnectOnUp", "ipBindAddrNoPort"))
_DEFAULT_QUERY: Final = "a.root-servers.net. A"


@dataclass
class Downstream:
    """One server: its backend, its probe, the pools that it is in, and what is the service's here."""

    statement: Statement
    backend: dict[str, Any] = field(default_factory=dict)
    pools: list[str] = field(default_factory=lambda: [""])
    order: int = 1
    client_subnet: bool = False
    probes: list[dict[str, Any]] = field(default_factory=list)
    connect_timeout: float | None = None


def text_of(value: Any) -> str:
    """Return a string."""
    if not isinstance(value, str):
        raise LeftError(f"{shown(value)} is not a text")
    return value


def whole(value: Any, least: int = 0, most: int = 2**31) -> int:
    """Return a whole number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise LeftError(f"{shown(value)} is not a number")
    return number(f"{value:.0f}" if isinstance(value, float) else str(value), least, most)


def seconds(value: Any) -> float:
    """Return a number of seconds."""
    return decimal(f"{value:.6f}" if isinstance(value, float) else text_of(value))


def texts(value: Any) -> list[str]:
    """Return the strings of a list, or a string alone."""
    return [text_of(each) for each in value.items] if isinstance(value, Table) else [text_of(value)]


def server(call: Call, ledger: Ledger, part: Part) -> Downstream:
    """Return the server of a call; raises `LeftError`."""
    statement = call.statement
    found = Downstream(statement)
    options = dict(call.options)
    for arg, key in zip([each for each in call.args if not isinstance(each, Table)], ("address", "qps"), strict=False):
        options.setdefault(key, arg)
    if not options.get("address"):
        raise LeftError("it has no address")
    if options.get("tls") or options.get("dohPath") or str(options.get("protocol", "Do53")).lower() != "do53":
        raise LeftError(_TLS)
    _address(found, text_of(options["address"]))
    check: dict[str, Any] = {
        "timeout": 1.0,
        "interval": 1.0,
        "fall": 1,
        "rise": 1,
        "name": "",
        "type": "A",
        "mode": "auto",
    }
    _read(statement, options, found, check, ledger, part)
    _probe(found, check, ledger, part)
    for method in call.methods:
        if method.name in {"setDown", "setDrain"}:
            found.backend["admin"] = "maint"
        elif method.name == "setUp":
            found.probes = []
        elif method.name != "setAuto":
            ledger.changed(statement, f"{method.name[:40]}: this method has no form here", part)
    return found


def _address(found: Downstream, text: str) -> None:
    try:
        host, port = parse_endpoint(text)
    except ValueError as error:
        raise LeftError(str(error)) from None
    found.backend["address"] = address(host)
    found.backend["port"] = port or PORT


def _read(
    statement: Statement, options: dict[str, Any], found: Downstream, check: dict[str, Any], ledger: Ledger, part: Part
) -> None:
    backend = found.backend

    def put(target: dict[str, Any], key: str, value: Callable[[Any], Any]) -> Handler:
        return lambda each: target.__setitem__(key, value(options[each.name]))

    handlers: dict[str, Handler] = {
        "address": lambda _: None, "tls": lambda _: None, "dohPath": lambda _: None, "protocol": lambda _: None,
        "name": put(backend, "name", text_of),
        "weight": put(backend, "weight", lambda value: whole(value, 1)),
        "order": lambda each: setattr(found, "order", whole(options[each.name])),
        "pool": lambda each: setattr(found, "pools", texts(options[each.name]) or [""]),
        "qps": lambda each: _qps(each, options, found, ledger, part),
        "useClientSubnet": lambda each: setattr(found, "client_subnet", options[each.name] is True),
        "useProxyProtocol": lambda each: backend.update({"send-proxy": "v2"} if options[each.name] is True else {}),
        "source": lambda each: _source(text_of(options[each.name]), backend),
        "tcpConnectTimeout": lambda each: setattr(found, "connect_timeout", seconds(options[each.name])),
        "checkName": put(check, "name", text_of), "checkType": put(check, "type", lambda value: shown(value).rpartition(".")[2]),
        "checkInterval": put(check, "interval", seconds), "maxCheckFailures": put(check, "fall", lambda value: max(1, whole(value))),
        "checkTimeout": put(check, "timeout", lambda value: seconds(value) / 1000), "rise": put(check, "rise", lambda value: max(1, whole(value))),
        "mustResolve": put(check, "must", lambda value: value is True), "checkTCP": put(check, "tcp", lambda value: value is True),
        "healthCheckMode": put(check, "mode", lambda value: text_of(value).lower()),
    }  # fmt: skip
    if "checkInterval" in options:
        check["paced"] = True
    ledger.read(statement.inner, handlers, part=part, always=_ALWAYS, left=_LEFT)
    if backend.get("name") == "":
        del backend["name"]


def _qps(each: Statement, options: dict[str, Any], found: Downstream, ledger: Ledger, part: Part) -> None:
    rate = whole(options[each.name])
    if rate:
        found.backend["max-connections"] = rate
        ledger.changed(each, "max-connections limits queries in flight, not a rate: a smaller number will do", part)


def _source(text: str, backend: dict[str, Any]) -> None:
    host = text.partition("@")[0]
    try:
        backend["source-addresses"] = [address(host)]
    except LeftError:
        raise LeftError("source-addresses chooses the way out, not an interface") from None


def _probe(found: Downstream, check: dict[str, Any], ledger: Ledger, part: Part) -> None:
    if check["mode"] == "down":
        found.backend["admin"] = "maint"
    if check["mode"] == "up":
        return
    if check["mode"] == "lazy":
        ledger.changed(
            found.statement, "lazy: probes run all the time; real traffic ejects a backend with `eject`", part
        )
    name = check["name"]
    query = f"{name} {check['type']}" if name else _DEFAULT_QUERY
    codes = ["NOERROR"] if check.get("must") else ["NOERROR", "NXDOMAIN", "REFUSED", "NOTIMP", "FORMERR"]
    interval = max(0.01, check["interval"])
    timeout = min(max(0.01, check["timeout"]), interval)
    found.probes = [
        {
            "type": "dns",
            "query": query,
            "rcode": codes if len(codes) > 1 else codes[0],
            "transport": "tcp" if check.get("tcp") else "udp",
            "interval": duration(interval),
            "fast-interval": duration(interval),
            "down-interval": duration(interval),
            "timeout": duration(timeout),
            "fall": check["fall"],
            "rise": check["rise"],
        }
    ]
