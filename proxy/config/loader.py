"""`load` and `diagnose`: turn a file name into a `Config`, or into all mistakes of the file."""

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

from proxy.config import warnings
from proxy.config.characters import check_values
from proxy.config.diagnostics import ConfigError, Diagnostic, Report
from proxy.config.files import Files
from proxy.config.hostfiles import Use, check_group, check_user
from proxy.config.loops import addresses, check_loops
from proxy.config.merge import without
from proxy.config.model import (
    Backend,
    Config,
    Service,
)
from proxy.config.nodes import choose, read_nodes, this_node
from proxy.config.notify import notifies
from proxy.config.positions import Arr, Source, Spot, Tab
from proxy.config.probes import Probes, standing_alone
from proxy.config.reserved import reserved
from proxy.config.resolve import Services
from proxy.config.routers import check_membership, check_tracks, routers, sync_groups, tables
from proxy.config.settings import ControlSettings, LogSettings, NodeSettings, WebSettings, default_user
from proxy.config.tables import FileTable, ServiceTable
from proxy.config.validate import keys_of, validate
from vrrp.fitness import OWNER


def load(path: str | os.PathLike[str], node: str | None = None, *, need_files: bool = True) -> Config:
    """Return the effective configuration of one node; raises `ConfigError` with all mistakes, OSError if unreadable.

    `node` is the value of `--node`. With `need_files` a missing secret file is an error. The file is checked for every
    node: a mistake for one host is an error on all.
    """
    config, found = _read(path, node, all_nodes=True, use="now" if need_files else "elsewhere", running=True)
    if config is None:
        raise ConfigError(item for item in found if item.severity == "error")
    return config


def diagnose(path: str | os.PathLike[str], node: str | None = None) -> tuple[Config | None, list[Diagnostic]]:
    """Return the configuration (None after any error) and all errors and warnings; raises OSError if unreadable.

    Without `node` every node of the file is checked. The result is the configuration of this host, otherwise of the first
    node.
    """
    return _read(path, node, all_nodes=node is None, use="here", running=False)


def diagnose_text(text: str, name: str = "new.toml") -> tuple[Config | None, list[Diagnostic]]:
    """Return the same as `diagnose` for the text of a file that is not on the disk yet."""
    report = Report()
    files = Files(report)
    return _judge(files, files.given(name, text), None, all_nodes=True, use="here", running=False)


def resolve_backend(config: Config, service: str, address: str) -> Backend:
    """Return the backend for a further string in `backends` of a service; raises `ConfigError` if it is not valid.

    `config` is a result of `load`.  The caller makes sure that the name is new.
    """
    report = Report()
    spot = Spot(Source("the command", address), (0, 0), (0, len(address)))
    backends = Arr(spot)
    backends.put(address, spot)
    tree = config._tree  # noqa: SLF001 - this module made the Config
    if tree is None:
        raise TypeError("the configuration was not loaded from a file")
    rest = without(tree, "service")  # whose values are chosen already: hundreds of services would take long
    resolver = _Resolver(rest, config.nodes, config.node.name, report, use="elsewhere")
    tab = tree["service"][service].copy()
    tab.put("backends", backends, spot)
    tab.put("quorum", 1, tab.spots.get("quorum", tab.here))  # the service has its other backends, too
    found = resolver.services().resolve(service, tab)
    if found is None:
        raise ConfigError(item for item in report.sorted() if item.severity == "error")
    return Backend.model_validate(found.backends[0].model_dump())


def _read(
    path: str | os.PathLike[str], node: str | None, *, all_nodes: bool, use: Use, running: bool
) -> tuple[Config | None, list[Diagnostic]]:
    files = Files(Report(), running=running)
    return _judge(files, files.load(os.fspath(path)), node, all_nodes=all_nodes, use=use, running=running)


def _judge(
    files: Files, tree: Tab | None, node: str | None, *, all_nodes: bool, use: Use, running: bool
) -> tuple[Config | None, list[Diagnostic]]:
    report = files.report
    config: Config | None = None
    if tree is not None:
        check_values(tree, report)
        nodes = read_nodes(tree, reserved(), report)
        config = _for_nodes(tree, nodes, node, report, all_nodes=all_nodes, use=use, running=running)
    if report.errors:
        return None, report.sorted()
    if config is not None:
        told = config._tree  # noqa: SLF001 - this module makes the Config
        config = config.model_copy(update={"sources": tuple(files.names), "sha256": files.sha256})
        config._tree = told  # noqa: SLF001
    return config, report.sorted()


def _for_nodes(
    tree: Tab,
    nodes: Sequence[str],
    told: str | None,
    report: Report,
    *,
    all_nodes: bool,
    use: Use,
    running: bool,
) -> Config | None:
    quiet = (
        Report() if not (running or told) else report
    )  # if all nodes are checked, it does not matter which one this host is
    known = this_node(tree, nodes, told, quiet)
    mine = known or (nodes[0] if nodes else "localhost")
    if known is None and use == "here":
        use = "elsewhere"
    others = [name for name in nodes if name != mine] if all_nodes else []
    config = _Resolver(tree, nodes, mine, report, use=use).config()
    found = [config, *(_Resolver(tree, nodes, name, report, use="elsewhere").config() for name in others)]
    if config is None:
        return None
    routers = [router for one in found if one is not None for router in one.vrrp]
    owned = {router.name for router in routers if router.priority == OWNER}
    merged = config._tree  # noqa: SLF001 - this module makes the Config
    config = config.model_copy(update={"owned": tuple(sorted(owned))})
    config._tree = merged  # noqa: SLF001
    return config


class _Resolver:
    """Turns the tree into the `Config` of one node."""

    def __init__(self, tree: Tab, nodes: Sequence[str], node: str, report: Report, *, use: Use) -> None:
        self.tree = choose(tree, nodes, node, report)
        self.nodes = nodes
        self.node = node
        self.report = report
        self.use = use

    def config(self) -> Config | None:
        """Return the configuration, or None after reporting."""
        report, tree = self.report, self.tree
        validate(FileTable, tree, report, "the file", homes=_top_homes())
        services = self.services()
        found, probes = dict(services.vrrp), services.probes
        services.check_defaults()
        probes.check_defaults()
        section = tables(tree, "service", report)
        resolved = [services.resolve(name, table) for name, table, _ in section]
        sound = [service for service in resolved if service is not None]
        own = addresses(sound, [router for router, _ in found.values()], self.node)
        check_loops(sound, own, services.tabs, report)
        check_tracks(found, [name for name, _, _ in section], probes, report)
        if not self.nodes:
            check_membership(found, self.node, report, need=self.use == "now")
        groups = sync_groups(tree, list(tree.get("vrrp", {})), report)
        told = notifies(
            tree,
            {
                "router": [*tree.get("vrrp", {}), *(group.name for group in groups)],
                "service": [name for name, _, _ in section],
                "backend": [f"{one.name}/{backend.name}" for one in sound for backend in one.backends],
            },
            report,
            use=self.use,
        )
        probes.check_unused()
        node = self._node()
        control = self._section("control", ControlSettings)
        self._check_names(node, control)
        web = self._section("web", WebSettings)
        log = self._section("log", LogSettings)
        if node is None or control is None or web is None or log is None or report.errors:
            return None
        config = Config.model_construct(
            nodes=tuple(self.nodes),
            node=node,
            control=control,
            web=web,
            log=log,
            vrrp=tuple(router for router, _ in found.values()),
            sync_groups=tuple(groups),
            notify=tuple(told),
            probes=self._tracked(found, probes),
            sources=(),
            sha256="",
        )
        # Service by service: one call for thousands of backends would stop all other threads of the daemon.
        services_ = tuple(Service.model_validate(one.model_dump()) for one in sound)
        config = Config.model_validate(config.model_dump()).model_copy(update={"services": services_})
        config._tree = self._merged_tree(services, found)  # noqa: SLF001 - this module makes the Config
        warnings.warn(
            config, services.tabs, {name: tab for name, (_, tab) in found.items()}, tree.here.source.name, report
        )
        return config

    def services(self) -> Services:
        """Return the resolver of services, with the defaults, the named probes and the routers."""
        report, tree = self.report, self.tree
        defaults = self._table("defaults")
        named = Tab(tree.here)
        for name, table, spot in tables(tree, "probe", report):
            named.put(name, table, spot)
        below = defaults.get("probe") if defaults is not None else None
        node = tree.get("node")
        user = node.get("user") if isinstance(node, Tab) else None
        probes = Probes(
            named,
            below if isinstance(below, Tab) else None,
            report,
            use=self.use,
            user=user or default_user(),
        )
        if defaults is not None:
            for key in ("probe", "vrrp"):
                if key in defaults and not isinstance(defaults[key], Tab):
                    report.error(defaults.spots[key], f"defaults.{key} must be a table")
        shared = defaults.get("vrrp") if defaults is not None else None
        found = routers(tree, shared, self.nodes, report, use=self.use)
        broken = (
            [name for name in tree.get("vrrp", {}) if name not in found] if isinstance(tree.get("vrrp"), Tab) else []
        )
        return Services(defaults, found, broken, probes, report)

    def _table(self, key: str) -> Tab | None:
        value = self.tree.get(key)
        if value is None or isinstance(value, Tab):
            return value
        self.report.error(self.tree.spots[key], f"{key} must be a table: write [{key}]")
        return None

    def _section(self, key: str, model: type[Any]) -> Any:
        table = self._table(key)
        return validate(model, table if table is not None else Tab(self.tree.here), self.report, f"[{key}]")

    def _node(self) -> NodeSettings | None:
        table = self._table("node")
        tab = table.copy() if table is not None else Tab(self.tree.here)
        tab.put("name", self.node, tab.spots.get("name", tab.here))
        return validate(NodeSettings, tab, self.report, "[node]")

    def _check_names(self, node: NodeSettings | None, control: ControlSettings | None) -> None:
        """Report a user and a group of the file that this host, which it is for, does not have."""
        if self.use == "elsewhere":
            return
        for table, key, check in (("node", "user", check_user), ("control", "group", check_group)):
            tab = self._table(table)
            value = getattr(node if table == "node" else control, key, None)
            if tab is not None and key in tab and isinstance(value, str):
                check(value, tab.spots[key], self.report)

    def _tracked(self, routers: dict[str, Any], probes: Probes) -> dict[str, Any]:
        names = {track.probe for router, _ in routers.values() for track in router.track if track.probe}
        specs = {name: probes.one(name, self.tree.here, None) for name in sorted(names)}
        found = {name: probe for name, probe in specs.items() if probe is not None}
        for probe in found.values():
            warnings.warn_of_probe(probe.spec, probe.tab, probe.spot, self.report)
        return {name: standing_alone(probe.spec) for name, probe in found.items()}

    def _merged_tree(self, services: Services, found: dict[str, Any]) -> Tab:
        """Return the node's tree with the defaults merged in, for support.py."""
        result = self.tree.copy()
        for key, merged_tables in (
            ("service", services.tabs),
            ("vrrp", {name: tab for name, (_, tab) in found.items()}),
        ):
            if key in result:
                section = Tab(result[key].here)
                for name, tab in merged_tables.items():
                    section.put(name, tab, result[key].spots[name])
                result.put(key, section, result.spots[key])
        return result


@cache
def _top_homes() -> dict[str, str]:
    homes: dict[str, str] = {}
    for model, place in (
        (ServiceTable, "[service.NAME]"),
        (NodeSettings, "[node]"),
        (ControlSettings, "[control]"),
        (WebSettings, "[web]"),
        (LogSettings, "[log]"),
    ):
        for key in keys_of(model):
            homes.setdefault(key, place)
    return homes
