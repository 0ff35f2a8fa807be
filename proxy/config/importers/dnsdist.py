"""Reads dnsdist's configuration: servers, pools, listeners, policies, access lists and the rules that have a key of ours [pure]."""

import posixpath
from collections.abc import Callable, Sequence
from typing import Any, Final

from proxy.config.importers.dnsdist_lua import Call, Lua, Name, Skipped, Table, shown
from proxy.config.importers.dnsdist_servers import PORT, Downstream, seconds, server, text_of, texts, whole
from proxy.config.importers.dnsdist_yaml import Yaml
from proxy.config.importers.draft import Draft, Part
from proxy.config.importers.keepalived_lines import Reader
from proxy.config.importers.ledger import Ledger, LeftError
from proxy.config.importers.services import Server, write_backends
from proxy.config.importers.values import block, common, duration, where
from proxy.config.types import parse_endpoint

PRIVATE: Final = [
    "127.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "192.168.0.0/16", "172.16.0.0/12", "::1/128", "fc00::/7",
    "fe80::/10",
]  # fmt: skip
"""dnsdist's access list if a file sets none."""

_POLICIES: Final = {
    "leastOutstanding": ("least-connections", ""), "firstAvailable": ("least-connections", ""), "roundrobin": ("round-robin", ""),
    "wrandom": ("random-two", ""), "whashed": ("maglev", "query-name"), "chashed": ("maglev", "query-name"),
    "orderedWrandUntag": ("random-two", ""),
}  # fmt: skip
_CONSOLE: Final = "control.socket is what commands talk to; `steelyard status --json` has the figures"
_ENCRYPTED: Final = 'encrypted queries are not decrypted: relay them as they are, a service with protocol = "plain" in front of servers with certificates'
_CACHE: Final = "there is no cache, on purpose"
_RULE: Final = "no rules about queries: only clients' addresses and rates have keys (allow, deny, rate-per-client)"
_POOL: Final = "a pool is a service here: give it an address or a port of its own"
_LEFT: Final = {
    **dict.fromkeys(("addTLSLocal", "addDOHLocal", "addDOH3Local", "addDOQLocal", "addDNSCryptBind", "generateDNSCryptProviderKeys",
                     "generateDNSCryptCertificate", "setVerboseHealthChecks", "loadTLSEngine", "loadTLSProvider"), _ENCRYPTED),
    **dict.fromkeys(("newPacketCache", "setPacketCache", "setStaleCacheEntriesTTL", "packet_caches", "cache_settings"), _CACHE),
    **dict.fromkeys(
        ("controlSocket", "setKey", "setConsoleACL", "addConsoleACL", "webserver", "setWebserverConfig", "setAPIWritable", "carbonServer",
         "snmpAgent", "setConsoleConnectionsLogging", "setConsoleOutputMaxMsgSize", "console", "metrics", "snmp", "includeDirectory",
         "setConsoleMaximumConcurrentConnections", "setServerID"), _CONSOLE),
    **dict.fromkeys(
        ("addResponseAction", "addCacheHitResponseAction", "addCacheInsertedResponseAction", "addSelfAnsweredResponseAction",
         "addLuaAction", "addLuaResponseAction", "addDomainBlock", "addDomainSpoof", "addAnyTCRule", "addNoRecurseRule", "addQPSLimit",
         "addPoolRule", "addDisableValidationRule", "addQPSPoolRule", "addDelay", "mvRule", "topRule", "newRuleAction", "newSuffixMatchNode", "newCDBKVStore", "newLMDBKVStore", "newDNSNameSet", "setRules",
         "response_rules", "cache_hit_response_rules", "cache_miss_rules"), _RULE),
    **dict.fromkeys(("addDynBlocks", "addDynBlockSMT", "setDynBlocksAction", "setDynBlocksPurgeInterval", "dynBlockRulesGroup",
                     "dynamic_rules", "dynamic_rules_settings"), "rate-per-client stops by itself when the client slows down"),
    "setServerPolicyLua": "nothing is executed: scheduler has names", "setServerPolicyLuaFFI": "nothing is executed: scheduler has names",
    "setECSOverride": "the option of a client is never changed", "setECSSourcePrefixV4": "24 bits, as RFC 7871 advises",
    "setECSSourcePrefixV6": "56 bits, as RFC 7871 advises", "setWeightedBalancingFactor": "max-connections of a backend is the limit",
    "setConsistentHashingBalancingFactor": "max-connections of a backend is the limit",
    "setMaxTCPQueriesPerConnection": "a connection may carry any number of queries",
    "setMaxTCPConnectionDuration": "connections last as long as they are used",
    "setMaxTCPQueuedConnections": "clients wait in the kernel's queue: tcp.backlog",
    "setTCPSendTimeout": "dns.idle-timeout is for both directions", "setMaxTCPClientThreads": "node.workers: one for each processor",
    "setVerbose": "log.level", "setSyslogFacility": "the service manager takes the log", "setStructuredLogging": 'log.format = "json"',
    "setQueryCount": "`steelyard status` has counters", "setQueryCountFilter": "`steelyard status` has counters",
    "general": "settings of the process are the daemon's own", "logging": "log.level, log.format", "webserver.": _CONSOLE,
    "setProxyProtocolApplyACLToProxiedClients": "allow and deny always see the address of the header",
    "setProxyProtocolMaximumPayloadSize": "a header has its greatest size",
    "setSecurityPollSuffix": "the daemon asks nobody for newer versions", "security_polling": "the daemon asks nobody for newer versions",
}  # fmt: skip
_OUTSTANDING: Final = 65535  # dnsdist's default, which is more than any backend should have
_ALWAYS: Final = frozenset(
    ("setServFailWhenNoServer", "setRoundRobinFailOnNoServer", "setRingBuffersSize", "setRingBuffersLockRetries",
     "setRandomizedOutgoingSockets", "setRandomizedIdsOverUDP", "setUDPMultipleMessagesVectorSize", "setCacheCleaningDelay",
     "setCacheCleaningPercentage", "setAllowEmptyResponse", "setDropEmptyQueries", "ring_buffers", "setMaxCachedTCPConnectionsPerDownstream",
     "setOutgoingTLSSessionsCacheMaxTicketsPerBackend", "setTCPUseSinglePipe", "setPayloadSizeOnSelfGeneratedAnswers", "setUDPSocketBufferSizes")
)  # fmt: skip


def convert(files: Sequence[tuple[str, str]], reader: Reader, ledger: Ledger) -> Draft:
    """Return the tables for the files of one configuration; raises `UnreadableError`."""
    return _Reading(reader, ledger).draft(files)


class _Reading:
    """Collects what the calls say; a call that comes later replaces or adds, as in dnsdist."""

    def __init__(self, reader: Reader, ledger: Ledger) -> None:
        self.reader = reader
        self.ledger = ledger
        self.tables = Draft()
        self.part = Part(("service", "dns"))
        self.binds: list[tuple[str, int, str]] = []
        self.servers: list[Downstream] = []
        self.acl = list(PRIVATE)
        self.policies: dict[str, tuple[str, str, str]] = {}
        self.port_pools: dict[int, str] = {}
        self.pool = ""
        self.dns: dict[str, Any] = {}
        self.most = 0  # queries in flight at a backend; 0: no limit
        self.tcp: dict[str, Any] = {}
        self._variables: dict[str, Any] = {}
        self._made: dict[int, int] = {}
        self._calls: list[Call] = []  # which live as long as their ids are known
        self._only_from: list[list[str]] = []

    def draft(self, files: Sequence[tuple[str, str]]) -> Draft:
        """Return the tables."""
        for file, text in files:
            self._file(file, text, 0)
        first = self.servers[0].statement if self.servers else None
        if first is None:
            return self.tables
        if not self.binds:
            self.binds = [("127.0.0.1", PORT, transport) for transport in ("udp", "tcp")]
            self.ledger.remark(
                first.place, "setLocal", "the file does not say where to listen: dnsdist's default", self.part
            )
        for blocks in self._only_from:
            self.acl = common(self.acl, blocks)
        pools = list(dict.fromkeys(self.port_pools.get(port, self.pool) for _, port, _ in self.binds))
        for pool in pools:
            ends = [bind for bind in self.binds if self.port_pools.get(bind[1], self.pool) == pool]
            self._service(pool, ends)
        for one in self.servers:
            if not set(one.pools) & set(pools):
                self.ledger.left(one.statement, f'pool "{one.pools[0][:40]}": {_POOL}', self.tables.part())
        return self.tables

    def _file(self, file: str, text: str, depth: int) -> None:
        yaml = file.endswith((".yml", ".yaml"))
        source = Yaml(file, text) if yaml else Lua(file, text, self._variables)
        for found in source.statements():
            if isinstance(found, Skipped):
                self.ledger.left(found.statement, found.why, self.part)
            elif found.name == "includeDirectory" and depth < 9:  # noqa: PLR2004 - nobody nests more
                self._include(found, depth)
            else:
                self._calls.append(found)
                self._call(found)

    def _include(self, call: Call, depth: int) -> None:
        folder = text_of(call.args[0]) if call.args and isinstance(call.args[0], str) else ""
        pattern = posixpath.join(posixpath.dirname(call.place.file), folder, "*.conf")
        found = self.reader(pattern)
        if not found:
            self.ledger.left(call.statement, "there is no such directory, or no *.conf in it", self.part)
            return
        self.ledger.carried(call.statement)
        for name, text in found:
            self._file(name, text, depth + 1)

    def _call(self, call: Call) -> None:
        handlers: dict[str, Callable[[Call], None]] = {
            "newServer": self._server, "setLocal": self._local, "addLocal": self._local, "setACL": self._acl, "addACL": self._acl,
            "setServerPolicy": self._policy, "setPoolServerPolicy": self._policy, "addAction": self._action,
            "setProxyProtocolACL": self._proxies, "setUDPTimeout": self._udp_timeout, "setTCPRecvTimeout": self._tcp_timeout,
            "setMaxUDPOutstanding": self._outstanding,
            "setMaxTCPConnectionsPerClient": self._per_client, "newNMG": lambda _: None, "NetmaskGroupRule": lambda _: None,
            "getPool": self._get_pool,
        }  # fmt: skip
        known = {name: (lambda _, run=run: run(call)) for name, run in handlers.items()}
        self.ledger.read([call.statement], known, part=self.part, always=_ALWAYS, left=_LEFT)

    # -- servers and listeners

    def _server(self, call: Call) -> None:
        found = server(call, self.ledger, self.part)
        at = self._made.setdefault(id(call), len(self.servers))  # a method of a variable's server is the call once more
        self.servers[at : at + 1] = [found]

    def _local(self, call: Call) -> None:
        text = text_of(call.args[0] if call.args else None)
        try:
            host, port = parse_endpoint(text)
        except ValueError:
            if text not in {"*", "0.0.0.0", "::"}:
                raise LeftError(f'"{text[:60]}" is not an address') from None
            host, port = text, None
        if call.name == "setLocal":
            self.binds.clear()
        options = call.options
        left = dict.fromkeys(options, "listeners have no such option")
        always = {"reusePort", "doTCP", "enableProxyProtocol", "threads", "maxInFlight", "tcpFastOpenQueueSize"}
        self.ledger.read(call.statement.inner, {"tcpListenQueueSize": lambda _: self._backlog(options)}, part=self.part,
                         always=always, left={key: why for key, why in left.items() if key not in always})  # fmt: skip
        for transport in ("udp", "tcp"):
            if transport == "udp" or options.get("doTCP", True) is not False:
                self.binds.append((where(host), port or PORT, transport))

    def _backlog(self, options: dict[str, Any]) -> None:
        self.tcp["backlog"] = whole(options["tcpListenQueueSize"], 1, 65535)

    def _acl(self, call: Call) -> None:
        blocks = [block(each) for arg in call.args for each in texts(arg)]
        if call.name == "setACL":
            self.acl = []
        self.acl.extend(each for each in blocks if each not in self.acl)

    def _proxies(self, call: Call) -> None:
        blocks = [block(each) for arg in call.args for each in texts(arg)]
        self.part.set("accept-proxy", blocks, call.place)

    # -- policies, timers, limits

    def _policy(self, call: Call) -> None:
        value = call.args[0] if call.args else None
        name = value.text.rpartition(".")[2] if isinstance(value, Name) else value
        if not isinstance(name, str) or name not in _POLICIES:
            raise LeftError(f"{shown(value)}: there is no such scheduler, and nothing is executed")
        pool = text_of(call.args[1]) if len(call.args) > 1 else ""
        self.policies[pool] = (*_POLICIES[name], name)
        if name == "orderedWrandUntag":
            self.ledger.changed(call.statement, "queries have no tags", self.part)

    def _udp_timeout(self, call: Call) -> None:
        value = seconds(call.args[0] if call.args else None)
        self.dns["give-up"] = duration(min(max(0.5, value), 60.0))

    def _tcp_timeout(self, call: Call) -> None:
        self.dns["idle-timeout"] = duration(max(0.001, seconds(call.args[0] if call.args else None)))

    def _outstanding(self, call: Call) -> None:
        most = whole(call.args[0] if call.args else None)
        self.most = most if most < _OUTSTANDING else 0

    def _per_client(self, call: Call) -> None:
        self.part.set("max-connections-per-client", whole(call.args[0] if call.args else None), call.place)

    def _get_pool(self, call: Call) -> None:
        raise LeftError(_CACHE if any("Cache" in each.name for each in call.methods) else _POOL)

    # -- rules

    def _action(self, call: Call) -> None:
        rule, action = [*call.args, None, None][:2]
        if not isinstance(action, Call):
            raise LeftError(_RULE)
        if isinstance(rule, str | Table):  # a domain or a netmask, alone or in a list
            rule = Call("NetmaskGroupRule" if _are_blocks(rule) else "QNameRule", call.place, [rule])
        if not isinstance(rule, Call):
            raise LeftError(_RULE)
        refuses = action.name in {"DropAction", "RCodeAction", "TCAction", "TruncateAction", "ERCodeAction"}
        if action.name == "PoolAction":
            self._pool_action(rule, text_of(action.args[0] if action.args else None))
        elif action.name == "AllowAction" and rule.name == "AllRule":
            pass
        elif rule.name == "MaxQPSIPRule" and refuses:
            rate = whole(rule.args[0] if rule.args else None, 1)
            self.part.set("rate-per-client", f"{rate}/s", call.place)
            why = "above the rate, every second query gets TC and the others no answer; clients are IPv4 addresses or IPv6 /64"
            self.ledger.changed(call.statement, why, self.part)
        elif rule.name == "NetmaskGroupRule" and refuses:
            self.part.set("deny", [*self.part.get("deny", []), *self._blocks(rule)], call.place)
        elif rule.name == "NotRule" and refuses and isinstance(inner := (rule.args or [None])[0], Call):
            self._only(inner)
        else:
            raise LeftError(_RULE)

    def _only(self, rule: Call) -> None:
        if rule.name != "NetmaskGroupRule":
            raise LeftError(_RULE)
        self._only_from.append(self._blocks(rule))

    def _blocks(self, rule: Call) -> list[str]:
        value = rule.args[0] if rule.args else None
        if isinstance(value, Call) and value.name == "newNMG":
            found = [
                each
                for one in (*value.args, *(arg for made in value.methods for arg in made.args))
                for each in texts(one)
            ]
        else:
            found = texts(value)
        return [block(each) for each in found]

    def _pool_action(self, rule: Call, pool: str) -> None:
        if rule.name == "AllRule":
            self.pool = pool
        elif rule.name == "DSTPortRule":
            self.port_pools[whole(rule.args[0] if rule.args else None, 1, 65535)] = pool
        else:
            raise LeftError(_POOL)

    # -- services

    def _service(self, pool: str, ends: list[tuple[str, int, str]]) -> None:
        servers = [one for one in self.servers if pool in one.pools]
        if not servers:
            shown_ = ", ".join(f"{host}:{port}/{transport}" for host, port, transport in ends)
            self.ledger.remark(
                self.servers[0].statement.place,
                "newServer",
                f'no servers in pool "{pool}" for {shown_}',
                self.tables.part(),
            )
            return
        part = self.tables.part(
            "service", self.tables.unused("service", pool or "dns"), place=servers[0].statement.place
        )
        part.set("listen", list(dict.fromkeys(f"{host}:{port}/{transport}" for host, port, transport in ends)))
        part.set("protocol", "dns")
        scheduler, hash_on, policy = self.policies.get(
            pool, self.policies.get("", ("least-connections", "", "leastOutstanding"))
        )
        part.set("scheduler", scheduler)
        if hash_on:
            part.set("hash-on", hash_on)
        everybody = {"0.0.0.0/0", "::/0"} <= set(self.acl)
        if not everybody:
            part.set("allow", list(self.acl))
        part.items.extend(self.part.items)
        self._tables(part, servers)
        tiers = sorted({one.order for one in servers})
        ports = {port for _, port, _ in ends}
        rows: list[Server] = []
        for one in servers:
            backend = dict(one.backend)
            if ports == {backend["port"]}:
                del backend["port"]
            if policy == "firstAvailable" and len(tiers) > 1 and tiers.index(one.order):
                backend["tier"] = min(255, tiers.index(one.order))
            rows.append(Server(backend, one.statement, one.probes))
        write_backends(self.tables, self.ledger, part, rows, servers[0].statement)

    def _tables(self, part: Part, servers: Sequence[Downstream]) -> None:
        dns = dict(self.dns)
        if any(one.client_subnet for one in servers):
            dns["client-subnet"] = "on"
        waits = [one.connect_timeout for one in servers if one.connect_timeout]
        tcp = {**self.tcp, **({"connect-timeout": duration(max(waits))} if waits else {})}
        each = {"max-outstanding": self.most} if self.most else {}
        for name, table in (("dns", dns), ("tcp", tcp), ("backend-defaults", each)):
            for key, value in table.items():
                self.tables.part(*part.path, name, place=part.place).set(key, value)


def _are_blocks(value: Any) -> bool:
    """Return True if a rule that is a text or a list is about clients' addresses, not about names."""
    try:
        for each in texts(value):
            block(each)
    except LeftError:
        return False
    return True
