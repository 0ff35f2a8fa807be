"""One frontend, backend or listen section of HAProxy: its lines, with those of its defaults before them [pure]."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.config.importers.draft import Part
from proxy.config.importers.haproxy_checks import CHECK_OPTIONS, Checks, milliseconds
from proxy.config.importers.haproxy_clients import Clients
from proxy.config.importers.haproxy_servers import Options, endpoint, merged
from proxy.config.importers.ledger import Handler, Ledger, LeftError, Statement
from proxy.config.importers.values import duration, number, where

_HTTP: Final = "HTTP is relayed as TCP: requests are not read"
_LOG: Final = "the connection log has one form: log.connections, log.connections-to"
_ENCRYPTED: Final = frozenset(("ssl", "crt", "crt-list"))
_LEFT: Final = {
    **dict.fromkeys(
        ("http-request", "http-response", "http-after-response", "http-error", "http-reuse", "http-send-name-header", "errorfile",
         "errorfiles", "errorloc", "errorloc302", "errorloc303", "redirect", "reqadd", "reqrep", "reqirep", "reqdel", "reqidel",
         "reqdeny", "reqideny", "reqallow", "rspadd", "rspdel", "rspidel", "rsprep", "rspirep", "cookie", "appsession", "capture",
         "monitor-uri", "monitor", "monitor-net", "compression", "stats", "http-check-send-state", "unique-id-format",
         "unique-id-header", "block", "declare", "use-fcgi-app", "force-persist", "ignore-persist", "filter"), _HTTP),
    **dict.fromkeys(("log-format", "log-format-sd", "log-tag", "error-log-format", "log-steps"), _LOG),
    "use-server": "the scheduler chooses the server", "tcp-response": "answers are not read",
    "server-template": "addresses only: write each server", "email-alert": "the daemon sends no mail",
    "dispatch": "write it as a server", "fullconn": "max-connections is fixed",
    "rate-limit": "rate-per-client limits each client, not the whole frontend",
    "clitcpka-cnt": "keepalive is one time", "clitcpka-intvl": "keepalive is one time", "clitcpka-idle": "keepalive is one time",
    "srvtcpka-cnt": "keepalive is one time", "srvtcpka-intvl": "keepalive is one time", "srvtcpka-idle": "keepalive is one time",
    "load-server-state-from-file": "a daemon that starts probes all backends at once",
    "server-state-file-name": "a daemon that starts probes all backends at once",
    "hash-balance-factor": "max-connections of a backend limits how much hashing can send to it",
    "retry-on": "a connect that fails is tried again, and nothing else can be", "grace": "stop-timeout is the node's",
    "description": "write it as a comment", "bind-process": "every worker serves", "persist": _HTTP, "external-check": "",
}  # fmt: skip
_ALWAYS: Final = frozenset(("retries", "id", "enabled", "no-option", "max-keep-alive-queue", "guid"))
_OPTIONS_ALWAYS: Final = frozenset(
    ("redispatch", "tcpka", "clitcpka", "srvtcpka", "dontlognull", "tcp-smart-accept", "tcp-smart-connect", "splice-auto",
     "splice-request", "splice-response", "nolinger", "contstats", "socket-stats", "log-separate-errors", "persist", "abortonclose",
     "log-health-checks", "independent-streams", "logasap", "idle-close-on-response")
)  # fmt: skip
_BIND_ALWAYS: Final = {
    "transparent": 0,
    "name": 1,
    "v4v6": 0,
    "v6only": 0,
    "id": 1,
    "level": 1,
    "shards": 1,
    "process": 1,
    "thread": 1,
}
_BIND_LEFT: Final = {"interface": 1, "maxconn": 1, "tfo": 0, "mss": 1, "nice": 1, "defer-accept": 0, "namespace": 1, "mode": 1, "user": 1,
                     "group": 1, "uid": 1, "gid": 1, "proto": 1, "severity-output": 1, "quic-socket": 1}  # fmt: skip
_BALANCE: Final = {"roundrobin": "round-robin", "static-rr": "round-robin", "leastconn": "least-connections", "first": "overflow",
                   "source": "source-hash", "random": "random-two"}  # fmt: skip
_MOST_PORTS: Final = 4096


@dataclass(frozen=True, slots=True)
class End:
    """An address and a port to listen on; whether TLS ends there, and whether clients send a PROXY header."""

    host: str
    port: int
    statement: Statement
    encrypted: bool
    proxied: bool


@dataclass(frozen=True, slots=True)
class Real:
    """One `server` line."""

    backend: dict[str, Any]
    options: Options
    statement: Statement


class Proxy:
    """What the lines of one section say."""

    def __init__(self, section: Statement, ledger: Ledger) -> None:
        """Prepare; `part` collects the service's keys and the notes."""
        self.section = section
        self.name = section.args[0]
        self.ledger = ledger
        self.part = Part(("service", self.name), section.place)
        self.binds: list[End] = []
        self.servers: list[Real] = []
        self.timers: dict[str, float] = {}
        self.tcp: dict[str, Any] = {}
        self.checks = Checks(ledger, self.part)
        self.clients = Clients(ledger, self.part)
        self.served = False
        self._defaults = Options(ledger, self.part)
        self._default = self.name if section.name == "listen" else ""
        self._uses: list[tuple[str, set[int]]] = []
        self._source = Options(ledger, self.part)
        self._every = False
        self._consistent = False
        self.logs: Statement | None = None
        """The option that logs each connection."""

    def read(self, lines: Sequence[Statement], inherited: int) -> None:
        """Read the lines; the first `inherited` ones are those of the defaults."""
        front, back = self.section.name != "backend", self.section.name != "frontend"
        shared: dict[str, Handler] = {"mode": self._mode, "timeout": self._timeout,
            **dict.fromkeys(("contimeout", "clitimeout", "srvtimeout"), self._old_timeout), "option": self._option, "no": self._no,
                                      "acl": self.clients.acl, "log": self._log}  # fmt: skip
        fronts: dict[str, Handler] = {"bind": self._bind, "maxconn": self._maxconn, "backlog": self._backlog,
                                      "default_backend": self._default_backend, "use_backend": self._use}  # fmt: skip
        backs: dict[str, Handler] = {
            "server": self._server, "default-server": self._default_server, "balance": self._balance, "source": self._from,
            "hash-type": self._hash_type, "stick-table": self.clients.table, "stick": self.clients.stick, **self.checks.handlers(),
        }  # fmt: skip
        table: dict[str, Handler] = {"tcp-request": self.clients.request, "stick-table": self.clients.table}
        handlers = {**shared, **table, **(fronts if front else {}), **(backs if back else {})}
        other = {**fronts, **backs}
        for at, line in enumerate(lines):
            if at < inherited and line.name in other and line.name not in handlers:
                continue  # the defaults of the other kind of section
            if line.name == "disabled":
                raise LeftError("it is disabled")
            order = {"left": {word: why for word, why in _LEFT.items() if word not in handlers}, "always": _ALWAYS}
            self.ledger.read([line], handlers, part=self.part, elsewhere=tuple(other), **order)  # type: ignore[arg-type]

    # -- lines of both kinds

    def _mode(self, statement: Statement) -> None:
        mode = (statement.args or [""])[0]
        if mode == "http":
            why = "connections are relayed as TCP: a client's requests stay with one server, and no header is added or read"
            self.ledger.changed(statement, why, self.part)
        elif mode != "tcp":
            raise LeftError(f"there is no mode {mode[:20]}")

    def _timeout(self, statement: Statement) -> None:
        name, text = [*statement.args, "", ""][:2]
        if name in {"http-request", "http-keep-alive", "tarpit"}:
            raise LeftError(_HTTP)
        if name not in {"connect", "client", "server", "tunnel", "client-fin", "server-fin", "queue", "check"}:
            raise LeftError("there is no such time")
        self.timers[name] = milliseconds(text)

    def _old_timeout(self, statement: Statement) -> None:
        """Read a timeout in the words of versions before 1.3.14."""
        name = {"contimeout": "connect", "clitimeout": "client", "srvtimeout": "server"}[statement.name]
        self.timers[name] = milliseconds((statement.args or [""])[0])

    def _option(self, statement: Statement) -> None:
        name = (statement.args or [""])[0]
        if name in CHECK_OPTIONS:
            self.checks.option(statement)
        elif name in {"tcplog", "httplog"}:
            self.logs = statement
        elif name == "allbackups":
            self._every = True
        elif name == "transparent":
            raise LeftError("a service needs servers")
        elif name not in _OPTIONS_ALWAYS:
            raise LeftError(
                _HTTP
                if name.startswith(("http", "forward", "original", "force", "accept-inv", "check"))
                else "no such option"
            )

    def _no(self, statement: Statement) -> None:
        if statement.args[:1] != ["option"] and statement.args[:1] != ["log"]:
            raise LeftError("there is nothing of this to turn off")

    @staticmethod
    def _log(statement: Statement) -> None:
        if statement.args[:1] != ["global"]:
            raise LeftError(_LOG)

    # -- frontends

    def _bind(self, statement: Statement) -> None:
        if not statement.args:
            raise LeftError("a value is missing")
        encrypted = not _ENCRYPTED.isdisjoint(statement.args[1:])
        proxied = "accept-proxy" in statement.args
        if not encrypted:
            self._listener(iter(statement.args[1:]), statement)
        if proxied:
            why = "accept-proxy lists who must send a header: better only your proxies"
            self.ledger.changed(statement, why, self.part)
        both = "v6only" not in statement.args
        for each in statement.args[0].split(","):
            for host, port in _ends(each):
                where_ = "*" if host == "[::]" and both else host
                self.binds.append(End(where_, port, statement, encrypted=encrypted, proxied=proxied))

    def _listener(self, words: Iterator[str], statement: Statement) -> None:
        """Read the options of a listener without TLS."""
        for word in words:
            for _ in range({**_BIND_ALWAYS, **_BIND_LEFT}.get(word, 0)):
                next(words, "")
            if word == "backlog":
                self.tcp["backlog"] = number(next(words, ""), 1, 65535)
            elif word == "tcp-ut":
                self.tcp["user-timeout"] = duration(milliseconds(next(words, "")))
            elif word != "accept-proxy" and word not in _BIND_ALWAYS:
                self.ledger.changed(statement, f"{word[:40]}: listeners have no such option", self.part)

    def _maxconn(self, statement: Statement) -> None:
        self.part.set("max-connections", number((statement.args or [""])[0]), statement.place)

    def _backlog(self, statement: Statement) -> None:
        self.tcp["backlog"] = number((statement.args or [""])[0], 1, 65535)

    def _default_backend(self, statement: Statement) -> None:
        self._default = (statement.args or [""])[0]

    def _use(self, statement: Statement) -> None:
        if len(statement.args) < 3 or statement.args[1] != "if":  # noqa: PLR2004 - the condition
            raise LeftError("a listener has one list of servers: only a condition on dst_port can divide them")
        ports = self.clients.ports(statement.args[2:])
        self._uses.append((statement.args[0], ports))

    def backend_of(self, port: int) -> str:
        """Return the name of the backend that gets the connections to a port."""
        return next((name for name, ports in self._uses if port in ports), self._default)

    # -- backends

    def _server(self, statement: Statement) -> None:
        if len(statement.args) < 2:  # noqa: PLR2004 - name and address
            raise LeftError("a server has a name and an address")
        host, port = endpoint(statement.args[1])
        options = Options(self.ledger, self.part, self._defaults)
        options.read(statement, statement.args[2:])
        backend: dict[str, Any] = {
            "address": host,
            "name": statement.args[0],
            **({"port": port} if port else {}),
            **options.backend,
        }
        if backend.get("backup") and not self._every:
            del backend["backup"]
            backend["tier"] = 1 + sum("tier" in one.backend for one in self.servers)
        self.servers.append(Real(backend, options, statement))

    def _default_server(self, statement: Statement) -> None:
        self._defaults = Options(self.ledger, self.part, self._defaults)
        self._defaults.read(statement, statement.args)

    def _balance(self, statement: Statement) -> None:
        name = (statement.args or [""])[0].partition("(")[0]
        if name not in _BALANCE:
            raise LeftError(f"{name[:20]}: {_HTTP}")
        scheduler = _BALANCE[name]
        self.part.set("scheduler", "maglev" if name == "source" and self._consistent else scheduler, statement.place)
        if name == "first":
            why = "a backend is full at `weight` connections: give each as weight what was its maxconn"
            self.ledger.changed(statement, why, self.part)

    def _hash_type(self, statement: Statement) -> None:
        self._consistent = statement.args[:1] == ["consistent"]
        if self._consistent and self.part.get("scheduler") == "source-hash":
            self.part.set("scheduler", "maglev", statement.place)

    def _from(self, statement: Statement) -> None:
        self._source.read(statement, ["source", *statement.args])

    @property
    def queue(self) -> int:
        """How many clients may wait for a server; 0 is HAProxy's default, any number."""
        return sum(one.options.queue for one in self.servers)

    def probes_of(self, one: Real, check: float | None) -> list[dict[str, Any]]:
        """Return the probes of a server, none if it is not checked."""
        if not one.options.checked:
            return []
        return [{**probe, **one.options.timers(check)} for probe in self.checks.probes()]

    def service_keys(self) -> dict[str, Any]:
        """Return the service's keys that stand on server lines and in `source`; the scheduler is HAProxy's default if none is."""
        found = merged([one.options.service for one in self.servers] + [self._source.service])
        if "source-addresses" in self._source.backend:
            found["source-addresses"] = self._source.backend["source-addresses"]
        if self.part.get("scheduler") is None:
            found["scheduler"] = "round-robin"
        return found


def _ends(text: str) -> list[tuple[str, int]]:
    """Return the places, as `listen` has them, and ports of one address of a `bind`."""
    family, _, rest = text.rpartition("@")
    if family not in {"", "ipv4", "ipv6", "tcp", "tcp4", "tcp6"} or rest.startswith("/"):
        raise LeftError("listeners are TCP and UDP")
    host, colon, ports = rest.rpartition(":")
    low, _, high = ports.partition("-")
    if not colon:
        raise LeftError("it has no port")
    first, last = number(low, 1, 65535), number(high or low, 1, 65535)
    if last - first >= _MOST_PORTS:
        raise LeftError(f"more than {_MOST_PORTS} ports")
    return [(where(host.strip("[]")), port) for port in range(first, last + 1)]


def endpoints(ends: Sequence[End]) -> list[str]:
    """Return the texts of `listen`, with the ports of one address together."""
    ports: dict[str, list[int]] = {}
    for end in ends:
        of = ports.setdefault(end.host, [])
        if end.port not in of:
            of.append(end.port)
    return [f"{host}:{','.join(map(str, found))}/tcp" for host, found in ports.items()]
