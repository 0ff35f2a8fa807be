"""Reports keys of one service that do not fit together, given its listeners and backends: each error at its key."""

from collections.abc import Iterable, Sequence

from health.measure import measures
from proxy.config.diagnostics import Report
from proxy.config.model import Backend, Listener
from proxy.config.positions import Arr, Spot, Tab
from proxy.config.settings import ServiceSettings
from proxy.config.validate import locate


def same_server(one: Backend, other: Backend, listeners: Iterable[Listener]) -> bool:
    """Return True if two backends of a service with these listeners have the same address and port."""
    if one.address != other.address or one.port == other.port:
        return one.address == other.address
    # A backend without a port has the listener's.
    return None in {one.port, other.port} and (one.port or other.port) in {listener.port for listener in listeners}


def check_service(
    settings: ServiceSettings, listeners: Sequence[Listener], backends: Sequence[Backend], tab: Tab, report: Report
) -> None:
    """Report keys that do not fit together; `tab` is the merged table."""
    if settings.udp.per_datagram and settings.protocol == "dns":
        report.error(
            locate(tab, ("udp", "per-datagram"))[1],
            'per-datagram is for protocol = "plain": DNS is relayed query by query anyway, and its clients wait for answers',
        )
    _sources(backends, tab, report)
    _measured(settings, backends, tab, report)
    if settings.protocol != "dns":
        _outstanding(backends, tab, report)
    if settings.transparent:
        _transparent(settings, listeners, backends, tab, report)
    if any(listener.transport == "udp" for listener in listeners):
        _proxy_on_udp(backends, tab, report)
    if listeners and all(listener.transport == "udp" for listener in listeners):
        _tcp_alone(settings, tab, report)


def _measured(settings: ServiceSettings, backends: Sequence[Backend], tab: Tab, report: Report) -> None:
    """Report a weight that follows what no probe measures."""
    kind = settings.weight_from
    blind = next((one for one in backends if not any(measures(probe, kind) for probe in one.probes)), None)
    if kind == "off" or blind is None:
        return
    needs = "a probe of type mysql, pgsql or redis with max-lag" if kind == "lag" else "a probe"
    report.error(
        locate(tab, ("weight-from",))[1],
        f'weight-from = "{kind}", and backend {blind.name} has no probe that measures its {kind}',
        f"{needs}, without report-only",
    )


def _outstanding(backends: Sequence[Backend], tab: Tab, report: Report) -> None:
    """Report a limit on queries in flight where there are none."""
    for index, backend in enumerate(backends):
        if backend.max_outstanding:
            report.error(
                _of_backend(tab, index, "max-outstanding"),
                'max-outstanding limits DNS queries in flight, and this service has protocol = "plain"',
                "max-connections limits its connections and sessions",
            )
            return


def _proxy_on_udp(backends: Sequence[Backend], tab: Tab, report: Report) -> None:
    told: list[Spot] = []
    for index, backend in enumerate(backends):
        spot = _of_backend(tab, index, "send-proxy")
        if backend.send_proxy == "v1" and spot not in told:
            told.append(spot)
            report.error(
                spot, 'send-proxy = "v1" is for TCP, and this service listens on UDP as well', 'send-proxy = "v2"'
            )


def _tcp_alone(settings: ServiceSettings, tab: Tab, report: Report) -> None:
    """Report limits on TCP connections of a service without TCP."""
    for key in ("max-connections", "max-connections-per-client"):
        if getattr(settings, key.replace("-", "_")):
            report.error(
                locate(tab, (key,))[1],
                f"{key} bounds TCP connections, and this service listens on UDP only",
                "udp.max-sessions bounds the sessions of a service, a backend's max-connections its own",
            )


def _sources(backends: Sequence[Backend], tab: Tab, report: Report) -> None:
    """Report a backend that cannot be reached from any of its source addresses."""
    told: list[Spot] = []
    for index, backend in enumerate(backends):
        version6 = ":" in backend.address
        if not backend.source_addresses or any((":" in one) == version6 for one in backend.source_addresses):
            continue
        spot = _of_backend(tab, index, "source-addresses")
        if spot not in told:
            told.append(spot)
            report.error(
                spot,
                f"source-addresses has no IPv{6 if version6 else 4} address, but backend {backend.name} is {backend.address}",
                "add one; source-addresses = [] of the backend leaves the choice to the kernel",
            )


def _transparent(
    settings: ServiceSettings, listeners: Sequence[Listener], backends: Sequence[Backend], tab: Tab, report: Report
) -> None:
    spot = locate(tab, ("transparent",))[1]
    if settings.protocol == "dns":
        report.error(
            spot,
            'transparent is not for protocol = "dns": the queries of all clients share a few sockets',
            'send-proxy = "v2", or dns.client-subnet = "on"',
        )
    addresses = [listener.address for listener in listeners] + [backend.address for backend in backends]
    if len({":" in address for address in addresses}) > 1:
        report.error(
            spot,
            "transparent with both IPv4 and IPv6: a backend can see a client's address only in its own family",
            "one service for each family, each with listeners and backends of that family",
        )
    if any(backend.source_addresses for backend in backends) and not settings.source_addresses:
        report.error(
            spot,
            "source-addresses of a backend and transparent exclude each other: a connection has only one source address",
        )


def _of_backend(tab: Tab, index: int, key: str) -> Spot:
    """Return where a backend's value of a key is written: in its table, in `backend-defaults`, or in the service's."""
    entry = locate(tab, ("backends", index))[0]
    own = entry[index] if isinstance(entry, Arr) and index < len(entry) else None
    if isinstance(own, Tab) and key in own:
        return own.spots[key]
    defaults = tab.get("backend-defaults")
    if isinstance(defaults, Tab) and key in defaults:
        return defaults.spots[key]
    return locate(tab, (key,))[1]
