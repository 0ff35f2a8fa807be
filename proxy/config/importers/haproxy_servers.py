"""HAProxy's `server` and `default-server` lines as backends and timers of probes [pure]."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from proxy.config.diagnostics import did_you_mean
from proxy.config.importers.draft import Part
from proxy.config.importers.haproxy_checks import milliseconds
from proxy.config.importers.ledger import Ledger, LeftError, Statement
from proxy.config.importers.values import address, duration, number, port

_TIMERS: Final = {"inter": "interval", "fastinter": "fast-interval", "downinter": "down-interval"}
_COUNTS: Final = {"rise": "rise", "fall": "fall"}
_WITH_PORT: Final = 8  # colons of an IPv6 address that is written in full, and of its port
_HTTP: Final = "HTTP is relayed as TCP: there are no cookies and no requests to see"
_TLS: Final = "TLS is relayed unchanged, and probes have no client certificates"
_NAMES: Final = "addresses only: the balancer must not depend on names"
_LEFT: Final[dict[str, tuple[int, str]]] = {
    "cookie": (1, _HTTP), "redir": (1, _HTTP), "proto": (1, _HTTP), "ws": (1, _HTTP), "pool-max-conn": (1, _HTTP),
    "pool-low-conn": (1, _HTTP), "pool-purge-delay": (1, _HTTP), "max-reuse": (1, _HTTP),
    "alpn": (1, _TLS), "npn": (1, _TLS), "crt": (1, _TLS), "crl-file": (1, _TLS), "ciphers": (1, _TLS),
    "ciphersuites": (1, _TLS), "ssl-min-ver": (1, _TLS), "ssl-max-ver": (1, _TLS), "sigalgs": (1, _TLS), "curves": (1, _TLS),
    "force-sslv3": (0, _TLS), "force-tlsv10": (0, _TLS), "force-tlsv11": (0, _TLS), "force-tlsv12": (0, _TLS),
    "force-tlsv13": (0, _TLS), "no-sslv3": (0, _TLS), "no-tlsv10": (0, _TLS), "no-tlsv11": (0, _TLS), "no-tlsv12": (0, _TLS),
    "no-tlsv13": (0, _TLS), "no-tls-tickets": (0, _TLS), "no-ssl-reuse": (0, _TLS), "allow-0rtt": (0, _TLS),
    "check-alpn": (1, "probes offer no ALPN"), "check-proto": (1, "http probes speak HTTP/1.1"),
    "resolvers": (1, _NAMES), "resolve-prefer": (1, _NAMES), "resolve-net": (1, _NAMES), "resolve-opts": (1, _NAMES),
    "init-addr": (1, _NAMES),
    "agent-check": (0, "a script probe with dynamic-weight can ask the agent"), "agent-addr": (1, "an argument of a script"),
    "agent-port": (1, "an argument of a script"), "agent-inter": (1, "the interval of a script"),
    "agent-send": (1, "an argument of a script"),
    "track": (1, "a service does not take over the state of another: let it `use` the same probe"),
    "minconn": (1, "max-connections is fixed"), "interface": (1, "source-addresses chooses the way out"),
    "namespace": (1, "run one daemon for each namespace"), "socks4": (1, "no SOCKS proxies"), "tfo": (0, "no TCP Fast Open"),
    "check-via-socks4": (0, "no SOCKS proxies"), "proxy-v2-options": (1, "there is no TLS to report"),
    "send-proxy-v2-ssl": (0, "there is no TLS to report: send-proxy-v2 alone"),
    "send-proxy-v2-ssl-cn": (0, "there is no TLS to report: send-proxy-v2 alone"), "shard": (1, "for peers of HAProxy"),
    "set-proxy-v2-tlv-fmt": (2, "there is nothing else to report"), "log-proto": (1, "for log servers"),
}  # fmt: skip
_ALWAYS: Final = {"id": 1, "enabled": 0, "no-agent-check": 0, "stick": 0, "tls-tickets": 0, "ssl-reuse": 0, "no-tfo": 0,
                  "no-send-proxy": 0, "no-check-ssl": 0, "no-backup": 0, "no-verifyhost": 0, "no-ssl": 0}  # fmt: skip


class Options:
    """The options of one server line, on top of those of `default-server`."""

    def __init__(self, ledger: Ledger, part: Part, before: "Options | None" = None) -> None:
        """Prepare; notes go into `part`."""
        self.ledger = ledger
        self.part = part
        self.backend: dict[str, Any] = dict(before.backend) if before else {}
        self.probe: dict[str, Any] = dict(before.probe) if before else {}
        self.service: dict[str, Any] = dict(before.service) if before else {}
        """Keys that are the service's here."""
        self.checked: bool = before.checked if before else False
        self.ssl: bool = before.ssl if before else False
        self.queue: int = before.queue if before else 0

    def read(self, statement: Statement, words: list[str]) -> None:
        """Read the options behind name and address."""
        rest = iter(words)
        for word in rest:
            try:
                self._option(word, rest)
            except LeftError as why:
                self.ledger.changed(statement, f"{word[:40]}: not carried over: {why}", self.part)

    def _option(self, word: str, rest: Iterator[str]) -> None:
        if word in _LEFT:
            count, why = _LEFT[word]
            for _ in range(count):
                next(rest, "")
            raise LeftError(why)
        if word in _ALWAYS:
            for _ in range(_ALWAYS[word]):
                next(rest, "")
        elif word in _TIMERS:
            self.probe[_TIMERS[word]] = milliseconds(next(rest, ""))
        elif word in _COUNTS:
            self.probe[_COUNTS[word]] = number(next(rest, ""), 1, 1000)
        elif word in {"check", "no-check"}:
            self.checked = word == "check"
        elif not self._backend(word, rest) and not self._probe(word, rest) and not self._service(word, rest):
            known = (
                *_LEFT,
                *_ALWAYS,
                *_TIMERS,
                *_COUNTS,
                "check",
                "weight",
                "maxconn",
                "backup",
                "slowstart",
                "send-proxy",
            )
            near = did_you_mean(word, known)
            raise LeftError(f"unknown word{': ' if near else ''}{near}")

    def _backend(self, word: str, rest: Iterator[str]) -> bool:
        match word:
            case "weight":
                self.backend["weight"] = number(next(rest, ""), 0, 256)
            case "maxconn":
                self.backend["max-connections"] = number(next(rest, ""))
            case "maxqueue":
                self.queue = number(next(rest, ""))
            case "slowstart":
                self.backend["slow-start"] = duration(milliseconds(next(rest, "")))
            case "backup":
                self.backend["backup"] = True
            case "disabled":
                self.backend["admin"] = "maint"
            case "send-proxy" | "send-proxy-v2":
                self.backend["send-proxy"] = "v2" if word.endswith("v2") else "v1"
            case _:
                return False
        return True

    def _probe(self, word: str, rest: Iterator[str]) -> bool:
        match word:
            case "port":
                self.probe["port"] = port(next(rest, ""))
            case "addr":
                self.probe["address"] = address(next(rest, ""))
            case "check-ssl":
                self.probe["tls"] = "implicit"
            case "ssl":
                self.ssl = True
                self.probe["tls"] = "implicit"
            case "verify":
                self.probe["tls-verify"] = next(rest, "") != "none"
            case "ca-file":
                path = next(rest, "")
                if not path.startswith("/"):
                    raise LeftError("tls-ca-file is an absolute path; the system's authorities are the default")
                self.probe["tls-ca-file"] = path
            case "check-sni" | "verifyhost" | "sni":
                name = next(rest, "")
                if re.fullmatch(r"str\(([\w.-]+)\)", name):
                    name = name[4:-1]
                if not re.fullmatch(r"[\w.-]+", name):
                    raise LeftError("tls-name is a fixed name")
                self.probe["tls-name"] = name
            case "check-send-proxy":
                self.probe["send-proxy"] = self.backend.get("send-proxy", "v1")
            case _:
                return False
        return True

    def _service(self, word: str, rest: Iterator[str]) -> bool:
        match word:
            case "on-marked-down" | "on-marked-up":
                value = next(rest, "")
                key = "on-down" if value == "shutdown-sessions" else "on-failback" if "backup" in value else ""
                if not key:
                    raise LeftError(f"{value[:40]} has no form here")
                self.service[key] = "reset"
            case "observe":
                if next(rest, "") != "layer4":
                    raise LeftError(_HTTP)
            case "error-limit":
                self.service["errors"] = number(next(rest, ""), 1)
            case "on-error":
                self.service.setdefault("errors", 10 if next(rest, "") != "fastinter" else 0)
            case "tcp-ut":
                self.service["user-timeout"] = duration(milliseconds(next(rest, "")))
            case "source":
                self._source(next(rest, ""))
            case "usesrc":
                self.service["transparent"] = next(rest, "") in {"client", "clientip"}
            case _:
                return False
        return True

    def _source(self, text: str) -> None:
        host = text.rpartition("@")[2]
        host = host.rpartition(":")[0] if host.count(":") == 1 else host.strip("[]")
        if host not in {"0.0.0.0", "*", "::", ""}:
            self.backend["source-addresses"] = [address(host)]

    def timers(self, check: float | None) -> dict[str, Any]:
        """Return the keys of a probe: what the line says, and HAProxy's limit of a run where it is longer than ours."""
        found = dict(self.probe)
        interval = found.get("interval", 2.0)
        for key in ("interval", "fast-interval", "down-interval"):
            if key in found:
                found[key] = duration(max(0.01, found[key]))
        timeout = min(check if check is not None else interval, interval)
        if timeout != min(1.0, interval):
            found["timeout"] = duration(max(0.01, timeout))
        return found


def endpoint(text: str) -> tuple[str, int | None]:
    """Return the address and the port, if any, of a server."""
    family, _, rest = text.rpartition("@")
    if family in {"unix", "abns", "fd", "sockpair", "udp"} or rest.startswith("/"):
        raise LeftError("a server has an IP address here")
    if rest.startswith("["):
        host, _, end = rest[1:].partition("]")
    elif rest.count(":") == 1 or rest.count(":") == _WITH_PORT:
        host, _, end = rest.rpartition(":")
    else:
        host, end = rest, ""
    end = end.removeprefix(":")
    if end[:1] in {"+", "-"}:
        raise LeftError("a backend has a fixed port, or the one that the client connected to")
    return address(host), port(end) if end else None


def merged(services: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the service's keys that its server lines say."""
    found: dict[str, Any] = {}
    for each in services:
        found.update(each)
    return found
