"""Turns a node's tree into services with their listeners, backends and probes, and checks their references."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from health.units import parse_host, placed
from proxy.config.diagnostics import Report, did_you_mean
from proxy.config.merge import merged, without
from proxy.config.model import Backend, Listener, Service, Vrrp
from proxy.config.positions import Arr, Spot, Tab
from proxy.config.probes import Checked, Filler, Probes, default_type
from proxy.config.relations import check_service
from proxy.config.settings import DnsSettings, ServiceSettings, TcpSettings, UdpSettings
from proxy.config.tables import BackendDefaults, BackendTable, DefaultsTable, ServiceTable
from proxy.config.types import join_endpoint, parse_endpoint, parse_listen
from proxy.config.validate import examine, keys_of, locate, toml_type, validate
from proxy.words import counted

MOST_LISTENERS: Final = 4096
MOST_BACKENDS: Final = 100_000

_WILDCARDS: Final = ("0.0.0.0", "::")


def _homes(name: str) -> dict[str, str]:
    """Return the keys of inner tables -> where they belong, for a key that was written one table too high."""
    homes: dict[str, list[str]] = {}
    places: list[tuple[type[Any], str]] = [
        (TcpSettings, f"[service.{name}.tcp]"),
        (UdpSettings, f"[service.{name}.udp]"),
        (DnsSettings, f"[service.{name}.dns]"),
        (BackendDefaults, f"[service.{name}.backend-defaults] or a backend's table"),
    ]
    for model, place in places:
        for key in keys_of(model):
            homes.setdefault(key, []).append(place)
    for key in ("interval", "fast-interval", "down-interval", "timeout", "fall", "rise", "type", "use"):
        homes.setdefault(key, []).append(f"[service.{name}.probe]")
    return {key: " or ".join(found) for key, found in homes.items()}


@dataclass(frozen=True, slots=True)
class Row:
    """One element of `backends`: its table with `backend-defaults` merged in, and its name as written."""

    table: BackendTable
    name: str
    tab: Tab
    spot: Spot


class Services:
    """Resolves every [service.NAME] of one node."""

    def __init__(
        self,
        defaults: Tab | None,
        vrrp: Mapping[str, tuple[Vrrp, Tab]],
        broken: Sequence[str],
        probes: Probes,
        report: Report,
    ) -> None:
        self.report = report
        self.vrrp = vrrp
        self.broken = broken
        self.probes = probes
        self.defaults = without(defaults, "probe", "vrrp") if defaults is not None else None
        self.tabs: dict[str, Tab] = {}
        """The merged table of each service, for the warnings and for support.py."""
        self._taken: dict[tuple[str, int, str], tuple[str, Spot]] = {}
        self._listeners = 0

    def check_defaults(self) -> None:
        """Check [defaults] by itself."""
        if self.defaults is None:
            return
        homes = {"listen": "each [service.NAME]", "backends": "each [service.NAME]", **_homes("NAME")}
        homes = {key: place.replace("service.NAME.", "defaults.") for key, place in homes.items()}
        validate(DefaultsTable, self.defaults, self.report, "[defaults]", homes=homes)

    def resolve(self, name: str, table: Tab) -> Service | None:
        """Return one service, or None after reporting."""
        before = self.report.errors
        tab = merged(self.defaults, table)
        self.tabs[name] = tab
        listeners = self._listen(name, tab)
        settings, _ = examine(ServiceTable, tab, self.report, f"[service.{name}]", homes=_homes(name))
        rows = self._backends(name, tab, listeners)
        backends = self._with_probes(tab, settings or ServiceSettings(), listeners, rows)
        if settings is not None and rows and settings.quorum > len(rows):
            self.report.error(
                locate(tab, ("quorum",))[1],
                f"quorum = {settings.quorum}, but there {'is' if len(rows) == 1 else 'are'} only"
                f" {counted(len(rows), 'backend')}: it can never be met",
            )
        if settings is not None:
            check_service(settings, listeners, backends, tab, self.report)
        if self.report.errors > before or settings is None:
            return None
        values = {key: getattr(settings, key) for key in ServiceSettings.model_fields}
        return Service.model_construct(name=name, listeners=tuple(listeners), backends=tuple(backends), **values)

    # -- listen

    def _listen(self, name: str, tab: Tab) -> list[Listener]:
        value = tab.get("listen")
        if not isinstance(value, Arr):
            return []
        found: list[Listener] = []
        for entry, spot in zip(value, value.spots, strict=True):
            if not isinstance(entry, str):
                continue  # the model tells
            try:
                parsed = parse_listen(entry)
            except ValueError as error:
                self.report.error(spot, str(error))
                continue
            if parsed.is_name and parsed.where not in self.vrrp:
                if parsed.where not in self.broken:
                    hint = did_you_mean(parsed.where, [*self.vrrp, *self.broken])
                    self.report.error(
                        spot,
                        f'"{parsed.where}" is neither an address nor a router: there is no [vrrp.{parsed.where}]',
                        hint or "the balancer does not resolve names: write an IP address, [IPv6] in brackets, or *",
                    )
                continue
            if parsed.is_name:
                addresses = _bare(self.vrrp[parsed.where][0])
            else:
                addresses = list(_WILDCARDS) if parsed.where == "*" else [parsed.where]
            self._listeners += len(addresses) * len(parsed.ports)
            if self._listeners > MOST_LISTENERS:
                self.report.error(spot, f"more than {MOST_LISTENERS} listeners in all")
                return found
            vrrp = parsed.where if parsed.is_name else None
            for port in parsed.ports:
                claims = [
                    self._claim(name, parsed.where, (address, port, parsed.transport), spot) for address in addresses
                ]
                found.extend(
                    Listener.model_construct(address=address, port=port, transport=parsed.transport, vrrp=vrrp)
                    for address, free in zip(addresses, claims, strict=True)
                    if free
                )
        return found

    def _claim(self, name: str, where: str, key: tuple[str, int, str], spot: Spot) -> bool:
        """Take an address for a service, or report the service that already has it."""
        taken = self._taken.get(key)
        if taken is None:
            self._taken[key] = (name, spot)
            return True
        owner, first = taken
        address, port, transport = key
        shown = f"*:{port}" if where == "*" else join_endpoint(address, port)
        line, _ = first.source.line_col(first.value[0])
        place = "in this list" if owner == name else f"by [service.{owner}]"
        self.report.error(spot, f"{shown}/{transport} is taken already, {place}, {first.source.name}:{line}")
        return False

    # -- backends

    def _backends(self, name: str, tab: Tab, listeners: Sequence[Listener]) -> list[Row]:
        if "backends" not in tab:
            return []  # the model tells
        value, whole = tab["backends"], tab.spots["backends"]
        if not isinstance(value, Arr):
            hint = f"write backends = [{toml_type(value)}]" if isinstance(value, str) else ""
            self.report.error(whole, f"backends must be a list, not {toml_type(value)}", hint)
            return []
        if not value:
            self.report.error(whole, f"[service.{name}] has no backends")
        if len(value) > MOST_BACKENDS:
            self.report.error(whole, f"more than {MOST_BACKENDS} backends")
            return []
        defaults = tab.get("backend-defaults")
        base = defaults if isinstance(defaults, Tab) else None
        found = [self._backend(entry, spot, base) for entry, spot in zip(value, value.spots, strict=True)]
        rows = [row for row in found if row is not None]
        self._check_twins(rows, listeners)
        return rows

    def _check_twins(self, rows: Sequence[Row], listeners: Sequence[Listener]) -> None:
        """Report a server that is listed twice, in whatever form, and two backends with the same name."""
        ports = {listener.port for listener in listeners}
        names: dict[str, Row] = {}
        ends: dict[tuple[str, int | None], Row] = {}
        listened: dict[str, Row] = {}  # address -> a backend with the port of a listener
        for row in rows:
            address, port = row.table.address, row.table.port
            twin = ends.setdefault((address, port), row)
            if twin is row and port is None:
                twin = listened.get(address, row)
            elif twin is row and port in ports:
                twin = ends.get((address, None), row)
                listened.setdefault(address, row)
            namesake = names.setdefault(row.name, row)
            if twin is not row:
                self.report.error(row.spot, *_told_twice(row, twin))
            elif namesake is not row:
                message = f'two backends are called "{row.name}", the other at line {_line(namesake.spot)}'
                self.report.error(row.spot, message, 'give each a "name"')

    def _backend(self, entry: Any, spot: Spot, base: Tab | None) -> Row | None:
        if isinstance(entry, str):
            try:
                address, port = parse_endpoint(entry)
                placed(parse_host(address))
            except ValueError as error:
                self.report.error(spot, str(error))
                return None
            own, written = Tab(spot), entry
            own.put("address", address, spot)
            if port is not None:
                own.put("port", port, spot)
        elif isinstance(entry, Tab):
            own, written = entry, str(entry.get("name", entry.get("address", "")))
        else:
            self.report.error(
                spot, f'a backend is an address in quotes or a table {{ address = "10.0.0.1" }}, not {toml_type(entry)}'
            )
            return None
        if base is not None and (
            "tier" in own or "backup" in own
        ):  # both keys set the tier: the backend's own key wins, whichever it is
            base = without(base, "tier", "backup")
        tab = merged(base, own, whole=("probe",))
        backend = validate(BackendTable, tab, self.report, "this backend")
        return Row(backend, written, tab, spot) if backend is not None else None

    # -- probes

    def _with_probes(
        self, tab: Tab, settings: ServiceSettings, listeners: Sequence[Listener], rows: Sequence[Row]
    ) -> list[Backend]:
        """Return the backends with their probes; without listeners it only checks the probes of the file."""
        kind = default_type(settings.protocol, listeners) if listeners else "tcp"
        shared = self._shared(tab, kind, listeners)
        filler = Filler(listeners, self.report)
        result: list[Backend] = []
        for row in rows:
            backend, probes = row.table, shared
            if "probe" in row.tab:
                probes = self.probes.expand(row.tab["probe"], row.tab.spots["probe"], _type_or_ask(kind))
            proxy = backend.send_proxy or settings.send_proxy
            filled = [filler.fill(probe, backend.address, backend.port, proxy) for probe in probes]
            self._check_require(settings, tab, probes)
            sources = settings.source_addresses if backend.source_addresses is None else backend.source_addresses
            result.append(
                Backend.model_construct(
                    name=row.name,
                    address=backend.address,
                    port=backend.port,
                    weight=backend.weight,
                    tier=backend.tier if backend.tier is not None else int(backend.backup),
                    admin=backend.admin,
                    max_connections=backend.max_connections,
                    max_outstanding=backend.max_outstanding,
                    slow_start=backend.slow_start,
                    send_proxy=proxy,
                    source_addresses=sources,
                    probes=tuple(probe for probe in filled if probe is not None),
                )
            )
        return result

    def _shared(self, tab: Tab, kind: str, listeners: Sequence[Listener]) -> list[Checked]:
        """Return the probes of the backends without a `probe` of their own."""
        if "probe" in tab:
            return self.probes.expand(tab["probe"], tab.spots["probe"], _type_or_ask(kind))
        implied = self.probes.implied(tab.spots["listen"], kind) if listeners else None
        return [implied] if implied else []

    def _check_require(self, settings: ServiceSettings, tab: Tab, probes: Sequence[Checked]) -> None:
        counting = sum(not probe.spec.report_only for probe in probes)
        if isinstance(settings.probe_require, int) and probes and settings.probe_require > counting:
            self.report.error(
                locate(tab, ("probe-require",))[1],
                f"probe-require = {settings.probe_require}, but only {counting} of the probes count: no backend could ever be up",
            )


def _bare(router: Vrrp) -> list[str]:
    """Return a router's addresses in the form for a socket: without prefix, link-local ones with their interface."""
    bare = [address.partition("/")[0] for address in router.addresses]
    return [
        f"{one}%{router.interface}" if ipaddress.ip_address(one).is_link_local and ":" in one else one for one in bare
    ]


def _type_or_ask(kind: str) -> str | None:
    """Return the type of a probe without `type`; None for a UDP service, which has no usual probe."""
    return None if kind == "none" else kind


def _told_twice(row: Row, twin: Row) -> tuple[str, str]:
    """Return the message for a server that is listed twice, and a hint about the port if only the port differs."""
    address, port = row.table.address, row.table.port
    shown = join_endpoint(address, port) if port else address
    hint = "" if twin.table.port == port else "without a port a backend has the listener's"
    return f"{shown} is a backend of this service already, at line {_line(twin.spot)}", hint


def _line(spot: Spot) -> int:
    return spot.source.line_col(spot.value[0])[0]
