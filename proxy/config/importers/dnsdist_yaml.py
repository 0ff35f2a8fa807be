"""dnsdist's configuration of 2.x in YAML, as the calls that mean the same in Lua [pure]."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from proxy.config.importers.dnsdist_lua import Call, Name, Skipped, Table
from proxy.config.importers.lexer import Place, Token, UnreadableError

_SERVER: Final = {
    "address": "address", "name": "name", "id": "id", "order": "order", "weight": "weight", "pools": "pool", "source": "source",
    "sockets": "sockets", "queries_per_second": "qps", "use_client_subnet": "useClientSubnet", "udp_timeout": "udpTimeout",
    "use_proxy_protocol": "useProxyProtocol", "disable_zero_scope": "disableZeroScope", "reconnect_on_up": "reconnectOnUp",
    "max_in_flight": "maxInFlight", "tcp_only": "tcpOnly", "max_concurrent_tcp_connections": "maxConcurrentTCPConnections",
    "ip_bind_addr_no_port": "ipBindAddrNoPort", "mac_address": "MACAddr", "protocol": "protocol", "tls": "tls", "doh": "dohPath",
}  # fmt: skip
_TCP: Final = {"retries": "retries", "connect_timeout": "tcpConnectTimeout", "send_timeout": "tcpSendTimeout",
               "receive_timeout": "tcpRecvTimeout", "fast_open": "tcpFastOpen"}  # fmt: skip
_CHECKS: Final = {
    "mode": "healthCheckMode", "qname": "checkName", "qtype": "checkType", "qclass": "checkClass", "function": "checkFunction",
    "lua": "checkFunction", "lua_file": "checkFunction", "timeout": "checkTimeout", "set_cd": "setCD",
    "max_failures": "maxCheckFailures", "rise": "rise", "interval": "checkInterval", "must_resolve": "mustResolve",
    "use_tcp": "checkTCP", "lazy": "lazyHealthCheckMode",
}  # fmt: skip
_BIND: Final = {"reuseport": "reusePort", "interface": "interface", "cpus": "cpus", "threads": "threads", "protocol": "protocol",
                "enable_proxy_protocol": "enableProxyProtocol", "xsk": "xskSocket"}  # fmt: skip
_BIND_TCP: Final = {
    "max_in_flight_queries": "maxInFlight", "listen_queue_size": "tcpListenQueueSize", "fast_open_queue_size": "tcpFastOpenQueueSize",
    "max_concurrent_connections": "maxConcurrentTCPConnections",
}  # fmt: skip
_SETTINGS: Final = {
    ("load_balancing_policies", "default_policy"): "setServerPolicy",
    ("load_balancing_policies", "servfail_on_no_server"): "setServFailWhenNoServer",
    ("load_balancing_policies", "round_robin_servfail_on_no_server"): "setRoundRobinFailOnNoServer",
    ("load_balancing_policies", "weighted_balancing_factor"): "setWeightedBalancingFactor",
    ("load_balancing_policies", "consistent_hashing_balancing_factor"): "setConsistentHashingBalancingFactor",
    ("proxy_protocol", "accepted_acl"): "setProxyProtocolACL", ("proxy_protocol", "apply_acl_to_proxied_clients"): "setProxyProtocolApplyACLToProxiedClients",
    ("edns_client_subnet", "override_existing"): "setECSOverride", ("edns_client_subnet", "source_prefix_v4"): "setECSSourcePrefixV4",
    ("edns_client_subnet", "source_prefix_v6"): "setECSSourcePrefixV6",
    ("tuning.tcp", "max_connections_per_client"): "setMaxTCPConnectionsPerClient",
    ("tuning.tcp", "worker_threads"): "setMaxTCPClientThreads", ("tuning.tcp", "receive_timeout"): "setTCPRecvTimeout",
    ("tuning.tcp", "send_timeout"): "setTCPSendTimeout", ("tuning.tcp", "max_queries_per_connection"): "setMaxTCPQueriesPerConnection",
    ("tuning.udp", "timeout"): "setUDPTimeout", ("tuning.udp", "max_outstanding_per_backend"): "setMaxUDPOutstanding",
}  # fmt: skip
_SELECTORS: Final = {
    "All": (), "MaxQPSIP": ("qps",), "NetmaskGroup": ("netmasks",), "Not": ("selector",), "DSTPort": ("port",),
    "ByName": ("selector_name",),
}  # fmt: skip
_ACTIONS: Final = {"Drop": (), "TC": (), "Truncate": (), "RCode": ("rcode",), "Pool": ("pool_name",), "Allow": ()}
_DEEPEST: Final = 9


class Yaml:
    """Reads one file; needs PyYAML, whose nodes know their places."""

    def __init__(self, file: str, text: str) -> None:
        """Prepare; raises `UnreadableError`."""
        self._file = file
        self._root = _compose(file, text)
        self._selectors: dict[str, Any] = {}

    def statements(self) -> Iterator[Call | Skipped]:
        """Yield the calls that mean the same."""
        readers: dict[str, Callable[[Any], Iterator[Call | Skipped]]] = {
            "backends": self._backends,
            "binds": self._binds,
            "acl": lambda node: iter([Call("setACL", self._place(node), [self._value(node)])]),
            "query_rules": self._rules,
            "pools": self._pools,
        }
        sections = self._pairs(self._root)
        for key, node in sections:
            if key.value == "selectors":
                for each in self._items(node):
                    self._selectors[str(self._of(each, "name"))] = each
        for key, node in sections:
            name = str(key.value)
            if name in readers:
                yield from readers[name](node)
            elif name != "selectors":
                yield from self._settings(name, node, self._token(key))

    def _backends(self, node: Any) -> Iterator[Call]:
        for each in self._items(node):
            table = Table()
            self._options(each, table, _SERVER, {"tcp": _TCP, "health_checks": _CHECKS})
            yield Call("newServer", self._place(each), [table])

    def _binds(self, node: Any) -> Iterator[Call]:
        for each in self._items(node):
            table = Table()
            self._options(each, table, _BIND, {"tcp": _BIND_TCP})
            table.keys.pop("listen_address", None)
            table.places.pop("listen_address", None)
            name = "addLocal" if str(table.keys.pop("protocol", "Do53")).lower() == "do53" else "addTLSLocal"
            table.places.pop("protocol", None)
            yield Call(name, self._place(each), [self._of(each, "listen_address"), table])

    def _options(
        self, node: Any, table: Table, names: Mapping[str, str], inner: Mapping[str, Mapping[str, str]]
    ) -> None:
        for key, value in self._pairs(node):
            text = str(key.value)
            if text in inner:
                self._options(value, table, inner[text], {})
            else:
                table.keys[names.get(text, text)] = self._value(value)
                table.places[names.get(text, text)] = self._token(key)

    def _pools(self, node: Any) -> Iterator[Call]:
        for each in self._items(node):
            name, policy = self._of(each, "name"), self._of(each, "policy")
            if policy:
                yield Call("setPoolServerPolicy", self._place(each), [policy, name])
            if self._of(each, "packet_cache"):
                yield Call("newPacketCache", self._place(each), [self._of(each, "packet_cache")])

    def _rules(self, node: Any) -> Iterator[Call]:
        for each in self._items(node):
            parts = {str(key.value): value for key, value in self._pairs(each)}
            selector = self._thing(parts.get("selector"), "Rule", _SELECTORS)
            action = self._thing(parts.get("action"), "Action", _ACTIONS)
            yield Call("addAction", self._place(each), [selector, action])

    def _thing(self, node: Any, suffix: str, known: Mapping[str, tuple[str, ...]], depth: int = 0) -> Any:
        """Return a selector or an action as a call; what is not known keeps its name."""
        kind = str(self._of(node, "type")) if node is not None else ""
        if kind == "ByName" and depth < _DEEPEST:
            return self._thing(self._selectors.get(str(self._of(node, "selector_name"))), suffix, known, depth + 1)
        args: list[Any] = []
        for parameter in known.get(kind, ()):
            inner = next((value for key, value in self._pairs(node) if key.value == parameter), None)
            nested = parameter == "selector" and depth < _DEEPEST
            args.append(
                self._thing(inner, suffix, known, depth + 1)
                if nested
                else None
                if inner is None
                else self._value(inner)
            )
        place = self._place(node) if node is not None else Place(self._file, 1)
        return Call(f"{ {'Truncate': 'TC'}.get(kind, kind) }{suffix}", place, args)

    def _settings(self, section: str, node: Any, token: Token) -> Iterator[Call | Skipped]:
        """Yield a call for each setting that has one; a section without any is one statement."""
        calls: list[Call | Skipped] = []
        for key, value in self._pairs(node):
            text = str(key.value)
            if section == "tuning":
                calls.extend(self._settings(f"tuning.{text}", value, self._token(key)))
            elif (section, text) in _SETTINGS:
                found = self._value(value)
                found = Name(found) if section == "load_balancing_policies" and isinstance(found, str) else found
                calls.append(Call(_SETTINGS[section, text], self._place(key), [found]))
            elif any(known == section for known, _ in _SETTINGS):
                calls.append(Call(f"{section}.{text}", self._place(key), []))
        yield from calls or [Call(section, token.place, [])]

    # -- nodes

    def _place(self, node: Any) -> Place:
        mark = node.start_mark
        return Place(self._file, mark.line + 1, mark.column + 1)

    def _token(self, node: Any) -> Token:
        return Token("name", str(node.value), self._place(node))

    def _pairs(self, node: Any) -> list[tuple[Any, Any]]:
        if node is None or node.id != "mapping":
            return []
        return [(key, value) for key, value in node.value if key.id == "scalar"]

    @staticmethod
    def _items(node: Any) -> list[Any]:
        return [each for each in node.value if each.id == "mapping"] if node.id == "sequence" else []

    def _of(self, node: Any, key: str) -> Any:
        return next((self._value(value) for name, value in self._pairs(node) if name.value == key), None)

    def _value(self, node: Any) -> Any:
        if node.id == "sequence":
            return Table(items=[self._value(each) for each in node.value if each.id == "scalar"])
        if node.id != "scalar":
            return Table()
        return _scalar(node)


def _scalar(node: Any) -> Any:
    kind, text = node.tag.rpartition(":")[2], node.value
    if kind == "bool":
        return text.lower() in {"true", "yes", "on"}
    if kind == "null":
        return None
    if kind in {"int", "float"}:
        try:
            return float(text.replace("_", ""))
        except ValueError:
            return text
    return text


def _compose(file: str, text: str) -> Any:
    """Return the root node; aliases are refused, because they can make a small file huge."""
    try:
        import yaml  # noqa: PLC0415 - an extra: only these files need it
    except ImportError:
        raise UnreadableError(Place(file, 1), "files in YAML need PyYAML", "pip install 'steelyard[yaml]'") from None
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                mark = event.start_mark
                raise UnreadableError(
                    Place(file, mark.line + 1, mark.column + 1), "aliases are not read: write the value"
                )
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1)
        raise UnreadableError(place, f"not YAML: {str(error.problem or error.context)[:120]}") from None
    except (yaml.YAMLError, ValueError) as error:  # a character that YAML does not have
        raise UnreadableError(Place(file, 1), f"not YAML: {str(error).splitlines()[0][:120]}") from None
    except RecursionError:
        raise UnreadableError(Place(file, 1), "nested too deeply") from None
    if root is None or root.id != "mapping":
        raise UnreadableError(Place(file, 1), "a configuration of dnsdist in YAML is a mapping: binds, backends, …")
    return root
