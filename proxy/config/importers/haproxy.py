"""Reads HAProxy's configuration: sections of mode tcp become services, HTTP rules are refused by name [pure]."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from proxy.config.importers.draft import Draft, Part, Remark, Setting
from proxy.config.importers.haproxy_checks import milliseconds
from proxy.config.importers.haproxy_lines import sections
from proxy.config.importers.haproxy_proxies import End, Proxy, Real, endpoints
from proxy.config.importers.ledger import Handler, Ledger, LeftError, Statement
from proxy.config.importers.services import EVERYBODY, PORTS, Server, write_backends
from proxy.config.importers.values import address, duration, number

_TUNING: Final = "buffers, caches and TLS are not there to be tuned"
_SECTIONS: Final = {
    "peers": "persistence is of one host: the other one chooses anew",
    "mailers": "the daemon sends no mail: a [notify.NAME] runs a program that may",
    "resolvers": "addresses only: the balancer must not depend on names",
    "userlist": "there are no users: the group of the control socket may read",
    "program": "start programs as services of their own",
    "http-errors": "HTTP is relayed as TCP: there are no pages of its own",
    "ring": "log.connections-to is where the connection log goes",
    "cache": "there is no cache",
    "log-forward": "log messages are relayed as any UDP service is: protocol, per-datagram",
    "fcgi-app": "HTTP is relayed as TCP",
    "crt-store": "TLS is relayed unchanged",
    "traces": 'log.level = "debug"',
    "acme": "TLS is relayed unchanged",
    "log-profile": "the connection log has one form",
}
_GLOBALS: Final = {
    "stats": "control.socket and its group are what commands talk to",
    "user": "node.user: `steelyard` if there is such a user",
    "group": "the group of node.user",
    "uid": "node.user: `steelyard` if there is such a user",
    "gid": "the group of node.user",
    "chroot": "the unit of the service manager confines the daemon",
    "pidfile": "the service manager knows the process",
    "log-send-hostname": "the connection log has one form", "log-tag": "the connection log has one form",
    "lua-load": "there is no Lua", "lua-prepend-path": "there is no Lua", "ca-base": "tls-ca-file is an absolute path",
    "crt-base": "TLS is relayed unchanged", "setenv": "there are no environment variables in the file",
    "presetenv": "there are no environment variables in the file", "description": "write it as a comment",
    "server-state-file": "a daemon that starts probes all backends at once",
    "server-state-base": "a daemon that starts probes all backends at once",
    "cpu-map": "the kernel chooses the processors", "cluster-secret": "persistence is of one host",
    "expose-experimental-directives": "not needed", "numa-cpu-mapping": "the kernel chooses the processors",
    "unix-bind": "listeners are TCP and UDP",
}  # fmt: skip
_GLOBAL_ALWAYS: Final = frozenset(
    ("daemon", "master-worker", "ulimit-n", "spread-checks", "max-spread-checks", "external-check", "insecure-fork-wanted", "strict-limits",
     "quiet", "node", "nbproc", "no-quick-exit", "noreuseport")
)  # fmt: skip

_TLS_ENDS: Final = "TLS ends at the servers: here they would get it from clients as it is, so give them certificates, and write this listener then"
_TLS_MADE: Final = "bytes go on as they are: there is no TLS towards servers"
_TLS_THROUGH: Final = "TLS goes through to the servers, which show their own certificates to clients"
_ENDLESS: Final = 10_000
"""Clients that may wait where HAProxy knows no limit."""


def convert(files: Sequence[tuple[str, str]], reader: Callable[[str], object], ledger: Ledger) -> Draft:
    """Return the tables for the files of one configuration; raises `UnreadableError`."""
    del reader  # HAProxy has no includes
    found = [section for file, text in files for section in sections(file, text)]
    return _Reading(ledger).draft(found)


class _Reading:
    """Turns sections into tables."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.tables = Draft()
        self.proxies: dict[str, Proxy] = {}
        self.fronts: list[Proxy] = []
        self._defaults: dict[str, Statement] = {}
        self._latest: Statement | None = None
        self._used: set[int] = set()

    def draft(self, found: Sequence[Statement]) -> Draft:
        """Return the tables of all sections."""
        top = self.tables.part()
        for section in found:
            name = section.name
            if name == "global":
                self.ledger.try_to(self._global, section, top)
            elif name == "defaults":
                self._latest = section
                if section.args:
                    self._defaults[section.args[0]] = section
                self.ledger.carried(section)
            elif name in {"frontend", "backend", "listen"}:
                self.ledger.try_to(self._proxy, section, top)
            else:
                self.ledger.left(section, _SECTIONS.get(name, "there is no such section here"), top)
        for section in found:
            if section.name == "defaults" and id(section) not in self._used:
                self.ledger.left(section, "no section below uses it", top)
        for front in self.fronts:
            self.ledger.try_to(self._services, front.section, top)
        for proxy in self.proxies.values():
            if proxy.section.name == "backend" and not proxy.served:
                self.ledger.left(proxy.section, "no frontend that could be carried over uses it", top)
        logs = next((proxy.logs for proxy in self.proxies.values() if proxy.logs is not None and proxy.served), None)
        if logs is not None:
            log = self.tables.part("log", place=logs.place)
            log.set("connections", "all", logs.place)
            self.ledger.changed(logs, "each connection is logged, in a form of its own", log)
        return self.tables

    def _proxy(self, section: Statement) -> None:
        if not section.args:
            raise LeftError("a section needs a name")
        defaults = self._latest
        if "from" in section.args[1:-1]:
            defaults = self._defaults.get(section.args[section.args.index("from") + 1], defaults)
        if defaults is not None:
            self._used.add(id(defaults))
        proxy = Proxy(section, self.ledger)
        proxy.read([*(defaults.inner if defaults else ()), *section.inner], len(defaults.inner) if defaults else 0)
        self.proxies.setdefault(section.args[0], proxy)
        if section.name != "backend":
            self.fronts.append(proxy)

    # -- services

    def _services(self, section: Statement) -> None:
        """Write a service for each backend that a frontend sends its ports to."""
        front = next(each for each in self.fronts if each.section is section)
        if not front.binds:
            raise LeftError("it has no `bind` that could be carried over")
        ways: dict[tuple[str, bool, bool], list[End]] = {}
        for end in front.binds:
            ways.setdefault((front.backend_of(end.port), end.encrypted, end.proxied), []).append(end)
        found = [(name, ends, self._servers(front, name, ends)) for (name, _, _), ends in ways.items()]
        sound = [(name, ends, servers) for name, ends, servers in found if servers]
        for name, ends, servers in sound:
            back = front if name == front.name and front.servers else self.proxies[name]
            back.served = front.served = True
            self._service(front, back, servers, ends, single=len(sound) == 1)
        if not sound:
            for item in front.part.items:
                if isinstance(item, Remark) and item.note is not None and item.note.left:
                    self.tables.part().remark(item.note)
            raise LeftError("none of its backends has a server that could be carried over")

    def _servers(self, front: Proxy, name: str, ends: list[End]) -> list[Real]:
        """Return the servers that listeners with a backend in common can have, none after saying why."""
        back = front if name == front.name and front.servers else self.proxies.get(name)
        servers = list(back.servers) if back is not None else []
        encrypted = ends[0].encrypted
        if encrypted and not all(one.options.ssl for one in servers):
            for end in ends:
                self.ledger.left(end.statement, _TLS_ENDS, front.part)
            return []
        if not encrypted and back is not None:
            for one in [one for one in servers if one.options.ssl]:
                self.ledger.left(one.statement, _TLS_MADE, back.part)
                servers.remove(one)
        if not servers:
            what = f"backend {name[:40]}: " if name and name != front.name else ""
            why = f"{what}no servers for {', '.join(f'{end.host}:{end.port}' for end in ends)}"
            self.ledger.remark(front.section.place, front.section.text, why, self.tables.part())
        return servers

    def _service(self, front: Proxy, back: Proxy, servers: list[Real], ends: list[End], *, single: bool) -> None:
        wanted = front.name if single else f"{front.name}-{PORTS.get(ends[0].port, ends[0].port)}"
        part = self.tables.part("service", self.tables.unused("service", wanted), place=front.section.place)
        part.set("listen", endpoints(ends), front.section.place)
        if ends[0].proxied:
            part.set("accept-proxy", list(EVERYBODY), ends[0].statement.place)
        for end in ends:
            if end.encrypted:
                self.ledger.changed(end.statement, _TLS_THROUGH, part)
        for proxy in dict.fromkeys((front, back)):
            for item in proxy.part.items:
                if isinstance(item, Setting):
                    part.set(item.key, item.value, item.place)
                elif item.note is not None:
                    part.remark(item.note)
        timers = {**front.timers, **back.timers}
        idle = [timers[key] for key in ("client", "server") if key in timers]
        tcp = {
            "connect-timeout": timers.get("connect"),
            "idle-timeout": timers.get("tunnel", max(idle, default=None)),
            "fin-timeout": max((timers[key] for key in ("client-fin", "server-fin") if key in timers), default=None),
        }
        table = {key: duration(value) for key, value in tcp.items() if value} | front.tcp | back.tcp
        if table:
            inner = self.tables.part(*part.path, "tcp", place=front.section.place)
            for key, value in table.items():
                inner.set(key, value)
        self._backends(part, back, servers, {end.port for end in ends}, timers)

    def _backends(self, part: Part, back: Proxy, real: list[Real], ports: set[int], timers: dict[str, float]) -> None:
        servers: list[Server] = []
        for one in real:
            backend = dict(one.backend)
            if ports == {backend.get("port")}:
                del backend["port"]
            probes = back.probes_of(one, timers.get("check"))
            if len(ports) > 1 and any("port" not in each.backend for each in real):
                probes = [{"port": backend.get("port", min(ports)), **probe} for probe in probes]
            servers.append(Server(backend, one.statement, probes))
        self._keys(part, back)
        limited = any(one.backend.get("max-connections") for one in servers)
        if limited and part.get("scheduler") != "overflow":
            waiting = timers.get("queue", timers.get("connect"))
            timeout = {} if waiting is None else {"timeout": duration(waiting)}
            part.set("queue", {"size": back.queue or _ENDLESS, **timeout})
        write_backends(self.tables, self.ledger, part, servers, back.section)

    def _keys(self, part: Part, back: Proxy) -> None:
        """Write the service's keys that stand on server lines."""
        for key, value in back.service_keys().items():
            if key == "user-timeout":
                self.tables.part(*part.path, "tcp").set(key, value)
            elif key != "errors":
                part.set(key, value)
            elif value:
                part.set("eject", {"errors": value})

    # -- global

    def _global(self, section: Statement) -> None:
        node = self.tables.part("node", place=section.place)
        log = self.tables.part("log", place=section.place)

        def put(key: str, value: Callable[[str], Any]) -> Handler:
            def handle(each: Statement) -> None:
                if not each.args:
                    raise LeftError("a value is missing")
                node.set(key, value(each.args[0]), each.place)

            return handle

        handlers: dict[str, Handler] = {
            "maxconn": put("max-connections", lambda text: number(text, 1)),
            "nbthread": put("workers", lambda text: number(text, 1, 256)),
            "hard-stop-after": put("stop-timeout", lambda text: duration(milliseconds(text))),
            "log": lambda each: self._log(each, log),
        }
        known = [
            each
            for each in section.inner
            if not re.match(r"(tune\.|ssl-|no-?tune|profiling|.*-dh-|h1-case|h2-)", each.name)
        ]
        for each in section.inner:
            if each not in known:
                self.ledger.left(each, _TUNING, self.tables.part())
        self.ledger.read(known, handlers, part=self.tables.part(), always=_GLOBAL_ALWAYS, left=_GLOBALS)

    def _log(self, statement: Statement, log: Part) -> None:
        text = (statement.args or [""])[0]
        if text.startswith(("/", "stdout", "stderr", "fd@")):
            return  # the daemon logs to standard error, connections to standard output: to the journal
        host, _, end = text.partition(":") if text.count(":") == 1 else (text, "", "")
        target = address(host.strip("[]"))
        shown = f"[{target}]" if ":" in target else target
        log.set("connections-to", f"udp://{shown}:{number(end or '514', 1, 65535)}", statement.place)
        self.ledger.changed(statement, "only the connection log goes there, in its own form", log)
