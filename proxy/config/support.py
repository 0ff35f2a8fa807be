"""What is valid, and asks for what this version does not do yet: `run` refuses it rather than ignoring it."""

from typing import Any, Final

from health.probes import NotSupported, make
from proxy.config.diagnostics import Diagnostic, Report
from proxy.config.model import Backend, Config, Service
from proxy.config.positions import Arr, Source, Spot, Tab
from proxy.config.validate import locate

SECTIONS_LATER: Final = ("web",)
"""Tables that are refused when they stand in the file."""

NOTIFY_LATER: Final = ("up", "down", "reserve")
"""States of backends, of which nobody can be notified yet."""


def unsupported(config: Config) -> list[Diagnostic]:
    """Return an error for each thing that comes later, at its place in the file; empty when `run` may start."""
    report = Report()
    tree = config._tree  # noqa: SLF001 - the two modules share the places
    if tree is None:  # from JSON: no file, no places
        name = config.sources[0] if config.sources else "configuration"
        tree = Tab(Spot(Source(name, ""), (0, 0), (0, 0)))
    for section in SECTIONS_LATER:
        if section in tree:
            spot = tree.spots[section]
            _refuse(report, spot, f"[{section}]", key=True)
    for told in config.notify:
        for index, state in enumerate(told.to):
            if state in NOTIFY_LATER:
                _refuse(report, locate(tree, ("notify", told.name, "to", index))[1], f'to = "{state}"')
    for service in config.services:
        _service(service, _table(tree, service.name), report)
    if not config.services and not config.vrrp:
        report.error(tree.here, "neither [service.NAME] nor [vrrp.NAME]: there is nothing to run")
    return report.sorted()


def _table(tree: Tab, name: str) -> Tab:
    section = tree.get("service")
    found = section.get(name) if isinstance(section, Tab) else None
    return found if isinstance(found, Tab) else Tab(tree.here)


def _refuse(report: Report, spot: Spot, what: str, *, key: bool = False) -> None:
    hint = "the file is valid, but this version does not support it"
    report.error(spot, f"{what} is not supported yet", hint, at="key" if key else "value")


def _service(service: Service, tab: Tab, report: Report) -> None:
    for index, backend in enumerate(service.backends):
        entry = locate(tab, ("backends", index))[0]
        own = entry[index] if isinstance(entry, Arr) and index < len(entry) else None
        _unmade(backend, own, tab, report)


def _unmade(backend: Backend, own: Any, tab: Tab, report: Report) -> None:
    """Tell of probes that cannot be made of what the file says: what only their library knows, as of a filter."""
    holder = own if isinstance(own, Tab) and "probe" in own else tab
    for position, probe in enumerate(backend.probes):
        try:
            make(probe)
        except NotSupported as why:
            path = ("probe", position) if isinstance(holder.get("probe"), Arr) else ("probe",)
            report.error(locate(holder, path)[1], f"this {probe.type} probe cannot be created: {why}")
