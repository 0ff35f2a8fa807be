"""keepalived's IPVS half: virtual_server and its groups, real servers, sorry servers [pure]."""

import ipaddress
from collections.abc import Mapping
from typing import Any, Final

from proxy.balance.names import canonical
from proxy.config.importers.draft import Draft, Part
from proxy.config.importers.keepalived_checks import CHECKERS, Checker, Pace
from proxy.config.importers.keepalived_mail import Mail, off
from proxy.config.importers.keepalived_scripts import served_notify
from proxy.config.importers.ledger import Handler, Ledger, LeftError, Statement, first
from proxy.config.importers.services import PORTS, Server, write_backends
from proxy.config.importers.values import address, decimal, duration, number, port, where

DNS: Final = 53
_MOST_ADDRESSES: Final = 1024
_LEFT: Final = {
    "omega": "no program is told when the daemon ends",
    "ha_suspend": "probes run on both hosts, so that the second one has verdicts when it takes over",
    "persistence_engine": "no payload is read except DNS",
    "snmp_name": "there is no SNMP",
    "ip_family": "the addresses say their family",
    "lthreshold": "a free slot is used at once",
    "log_all_failures": "`steelyard status` has the last result, `steelyard events` each change",
    "flag-2": "this flag of a scheduler has no form here",
    "flag-3": "this flag of a scheduler has no form here",
}
_ALWAYS: Final = frozenset(
    ("alpha", "warmup", "inhibit_on_failure", "sorry_server_inhibit", "sh-fallback", "mh-fallback", "service_type")
)
_SEEN: Final = {
    "NAT": "IPVS kept the client's address: here servers see this host's, unless transparent = true (the servers' default "
    'route is this host already, see docs/transparent.md) or send-proxy = "v2" (where the server can read it)',
    "DR": "answers return through this host, and servers see its address instead of the client's unless transparent = true "
    '(docs/transparent.md) or send-proxy = "v2"; the virtual address on the servers\' lo is not needed any more',
}


class Servers:
    """Turns the virtual servers of one file into [service.NAME]."""

    def __init__(self, draft: Draft, ledger: Ledger, holders: Mapping[str, tuple[str, int]], mail: Mail) -> None:
        """Prepare; `holders` says which router has an address, and how many it has."""
        self.draft = draft
        self.ledger = ledger
        self.holders = holders
        self.mail = mail
        self._groups: dict[str, Statement] = {}

    def group(self, statement: Statement) -> None:
        """Remember a virtual_server_group for the virtual servers that use it."""
        self._groups[first(statement)] = statement

    def server(self, statement: Statement) -> None:
        """Read a virtual_server."""
        inner = {each.name: each for each in statement.inner}
        protocol = (inner["protocol"].args or ["TCP"])[0].upper() if "protocol" in inner else "TCP"
        if protocol not in {"TCP", "UDP"}:
            raise LeftError(f"{protocol[:20]} is not relayed: only TCP and UDP are")
        transport = protocol.lower()
        ends = self._ends(statement)
        ports = list(dict.fromkeys(number_ for _, number_ in ends))
        name = PORTS.get(ports[0], f"{transport}-{ports[0]}")
        part = self.draft.part("service", self.draft.unused("service", name), place=statement.place)
        part.set("listen", [f"{self._where(host)}:{number_}/{transport}" for host, number_ in ends], statement.place)
        if transport == "udp" and DNS in ports:
            why = 'with protocol = "dns" each query is balanced, and one without an answer asked again'
            self.ledger.remark(statement.place, statement.text, why, part)
        _Service(self.draft, self.ledger, part, transport, ports, self.mail).read(statement)

    def _where(self, host: str) -> str:
        router, count = self.holders.get(host, ("", 0))
        return router if count == 1 else where(host)

    def _ends(self, statement: Statement) -> list[tuple[str, int]]:
        args = statement.args
        if args[:1] == ["fwmark"]:
            raise LeftError("there are no firewall marks: one `listen` has any number of addresses and ports")
        if args[:1] != ["group"]:
            if not args:
                raise LeftError("a value is missing")
            if len(args) < 2 or args[1] == "0":  # noqa: PLR2004 - address and port
                raise LeftError("a service for all ports has no form here: write the ports that clients use")
            return [(address(args[0]), port(args[1]))]
        group = self._groups.get(args[1] if len(args) > 1 else "")
        if group is None:
            raise LeftError("there is no such virtual_server_group")
        found: list[tuple[str, int]] = []
        self.ledger.carried(group)
        for each in group.inner:
            self.ledger.try_to(lambda one: found.extend(_group_entry(one)), each)
        if not found:
            raise LeftError("its group has no address")
        return list(dict.fromkeys(found))


def _mailed(statement: Statement) -> None:
    if off(statement):
        raise LeftError("the mails of a service are about all of its servers")


def _group_entry(statement: Statement) -> list[tuple[str, int]]:
    """Return the addresses and ports of a line of a group, whose last part may be a range ("10.0.0.1-9", "fd00::1-9")."""
    if statement.name == "fwmark":
        raise LeftError("there are no firewall marks: one `listen` has any number of addresses and ports")
    low, dash, end = statement.name.partition("-")
    number_ = port(first(statement))
    begin = ipaddress.ip_address(address(low.partition("/")[0]))
    if not dash:
        return [(str(begin), number_)]
    version6 = begin.version == 6  # noqa: PLR2004 - of IP
    base, bits = (16, 16) if version6 else (10, 8)
    try:
        last = int(end, base)
    except ValueError:
        raise LeftError(f'"{end[:20]}" is not the last part of an address') from None
    start = int(begin) & ((1 << bits) - 1)
    if not start <= last < 1 << bits or last - start >= _MOST_ADDRESSES:
        raise LeftError("this range runs backwards, or has too many addresses")
    return [(str(begin + step), number_) for step in range(last - start + 1)]


class _Service:
    """Reads the block of one virtual server into its table."""

    def __init__(self, draft: Draft, ledger: Ledger, part: Part, transport: str, ports: list[int], mail: Mail) -> None:
        self.mail = mail
        self.told: list[tuple[Statement, int]] = []  # scripts that are told of a server, by its index
        self.draft = draft
        self.ledger = ledger
        self.part = part
        self.transport = transport
        self.ports = ports
        self.pace: dict[str, Any] = {}
        self.weight = 1
        self.hysteresis = 0
        self.quorum = 1
        self.servers: list[Server] = []

    def read(self, statement: Statement) -> None:
        part = self.part
        handlers: dict[str, Handler] = {
            **Pace().handlers(self.pace),
            **dict.fromkeys(("lb_algo", "lvs_sched"), self._scheduler),
            **dict.fromkeys(("lb_kind", "lvs_method", "sorry_server_lvs_method"), self._kind),
            "protocol": lambda _: None,
            "persistence_timeout": self._persistence,
            "persistence_granularity": self._granularity,
            "ops": self._ops,
            **dict.fromkeys(
                ("flag-1", "sh-port", "mh-port", "hashed"), lambda each: part.set("hash-on", "source-port", each.place)
            ),
            "quorum": lambda each: setattr(self, "quorum", number(first(each), 1, 65535)),
            "hysteresis": lambda each: setattr(self, "hysteresis", number(first(each), 0, 65535)),
            "weight": lambda each: setattr(self, "weight", number(first(each), 0, 65535)),
            "smtp_alert": lambda each: self.mail.served(each, part.path[1]),
            **dict.fromkeys(("quorum_up", "quorum_down"), lambda _: None),
            "sorry_server": lambda _: None,
            "real_server": lambda _: None,
        }
        self.ledger.read(statement.inner, handlers, part=part, always=_ALWAYS, left=_LEFT, elsewhere=CHECKERS)
        for each in statement.inner:
            if each.name == "real_server":
                self.ledger.try_to(self._real, each, part)
        for each in statement.inner:
            if each.name == "sorry_server":
                self.ledger.try_to(self._sorry, each, part)
        if not self.servers:
            for path in [path for path in self.draft.parts if path[:2] == part.path]:
                del self.draft.parts[path]
            raise LeftError("it has no real servers")
        self._quorum(statement)
        write_backends(self.draft, self.ledger, part, self.servers, statement)
        self._notify(statement)

    def _notify(self, statement: Statement) -> None:
        """Write the scripts that are told of the service and its servers, now that these have names."""
        name, spare = self.part.path[1], any(one.spare for one in self.servers)
        for each in [one for one in statement.inner if one.name in {"quorum_up", "quorum_down"}]:
            found = self.ledger.try_to(self._told_of(name), each, self.part)
            if found and spare:
                why = "told when no server at all can serve, the sorry server neither"
                self.ledger.changed(each, why, self.part)
        for each, index in self.told:
            backend = self.part.rows("backends").values[index]
            own = backend if isinstance(backend, str) else backend.get("name", backend["address"])
            self.ledger.try_to(self._told_of(f"{name}/{own}"), each, self.part)

    def _told_of(self, name: str) -> Handler:
        return lambda each: served_notify(each, name, self.draft, self.ledger)

    def _scheduler(self, statement: Statement) -> None:
        name = canonical(first(statement))
        if name is None:
            raise LeftError("there is no such scheduler: least-connections is the default")
        self.part.set("scheduler", name, statement.place)

    def _kind(self, statement: Statement) -> None:
        kind = first(statement).upper()
        if kind not in {"NAT", "DR", "TUN"}:
            raise LeftError("NAT, DR or TUN: connections end at this host and go on from it, as NAT does")
        self.ledger.changed(statement, _SEEN.get(kind, _SEEN["DR"]), self.part)

    def _persistence(self, statement: Statement) -> None:
        seconds = decimal(statement.args[0]) if statement.args else 360.0
        if seconds:
            table = {**(self.part.get("persistence") or {}), "timeout": duration(seconds)}
            self.part.set("persistence", table, statement.place)

    def _granularity(self, statement: Statement) -> None:
        text = first(statement)
        try:
            bits = int(text) if text.isdecimal() else ipaddress.ip_network(f"0.0.0.0/{text}").prefixlen
        except ValueError:
            raise LeftError(f'"{text[:40]}" is neither a netmask nor a prefix') from None
        key = "ipv6-prefix" if text.isdecimal() else "ipv4-prefix"
        table = {"timeout": "6m", **(self.part.get("persistence") or {}), key: bits}
        self.part.set("persistence", table, statement.place)

    def _ops(self, statement: Statement) -> None:
        if self.transport != "udp":
            raise LeftError("one packet at a time is for UDP")
        self.part.set("udp", {"per-datagram": True}, statement.place)
        why = 'datagrams go one way: no answers come back; for DNS use protocol = "dns" instead'
        self.ledger.changed(statement, why, self.part)

    def _real(self, statement: Statement) -> None:
        backend = self._address(statement)
        found: dict[str, Any] = {}
        probes: list[dict[str, Any]] = []
        backend["weight"] = self.weight
        handlers: dict[str, Handler] = {
            **Pace().handlers(found),
            "weight": lambda each: backend.__setitem__("weight", number(first(each), 0, 65535)),
            "uthreshold": lambda each: backend.__setitem__("max-connections", number(first(each))),
            **dict.fromkeys(("lb_kind", "lvs_method"), self._kind),
            **dict.fromkeys(CHECKERS, lambda _: None),
            **dict.fromkeys(("notify_up", "notify_down"), lambda each: self.told.append((each, len(self.servers)))),
            "smtp_alert": _mailed,
        }
        self.ledger.read(statement.inner, handlers, part=self.part, always=_ALWAYS, left=_LEFT)
        pace = Pace().with_(self.pace).with_(found)

        def check(each: Statement) -> None:
            probes.extend(Checker(each, pace, self.ledger, self.part).probes())

        for each in statement.inner:
            if each.name in CHECKERS:
                self.ledger.try_to(check, each, self.part)
        if backend["weight"] == 1:
            del backend["weight"]
        self.servers.append(Server(backend, statement, probes))

    def _sorry(self, statement: Statement) -> None:
        backend = {**self._address(statement), "backup": True}
        self.servers.append(Server(backend, statement, []))

    def _address(self, statement: Statement) -> dict[str, Any]:
        found: dict[str, Any] = {"address": address(first(statement))}
        ports = statement.args[1:2]
        if ports and ports != ["0"] and [port(ports[0])] != self.ports:
            found["port"] = port(ports[0])
        return found

    def _quorum(self, statement: Statement) -> None:
        if self.quorum == 1 and not self.hysteresis:
            return
        part, real = self.part, [one.backend for one in self.servers if not one.backend.get("backup")]
        low = min(max(1, self.quorum - self.hysteresis), max(1, len(real)))
        part.set("quorum", low, statement.place)
        if self.hysteresis:
            part.set("quorum-hysteresis", self.quorum + self.hysteresis - low, statement.place)
        if any(backend.get("weight", 1) != 1 for backend in real):
            what = next((each for each in statement.inner if each.name == "quorum"), statement)
            self.ledger.changed(what, "a quorum counts servers that are up, not their weights", part)
