"""Finds valid settings that this version does not support yet: `run` refuses them instead of ignoring them."""

from typing import Any, Final

from health.probes import NotSupported, make
from proxy.config.diagnostics import ConfigError, Diagnostic, Report
from proxy.config.model import Backend, Config, Service
from proxy.config.positions import Arr, Source, Spot, Tab
from proxy.config.validate import locate

SECTIONS_LATER: Final = ("web",)
"""Tables that this version refuses."""


def refuse_unsupported(config: Config) -> None:
    """Raise ConfigError with all unsupported settings, if there are any."""
    missing = unsupported(config)
    if missing:
        raise ConfigError(missing)


def unsupported(config: Config) -> list[Diagnostic]:
    """Return an error for each unsupported setting, at its place in the file; empty if `run` may start."""
    report = Report()
    tree = config._tree  # noqa: SLF001 - the two modules share the places
    if tree is None:  # from JSON: no file, no places
        name = config.sources[0] if config.sources else "configuration"
        tree = Tab(Spot(Source(name, ""), (0, 0), (0, 0)))
    for section in SECTIONS_LATER:
        if section in tree:
            spot = tree.spots[section]
            _refuse(report, spot, f"[{section}]", key=True)
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
    """Report probes that cannot be created, because only their library can check a value such as a filter."""
    holder = own if isinstance(own, Tab) and "probe" in own else tab
    for position, probe in enumerate(backend.probes):
        try:
            make(probe)
        except NotSupported as why:
            path = ("probe", position) if isinstance(holder.get("probe"), Arr) else ("probe",)
            report.error(locate(holder, path)[1], f"this {probe.type} probe cannot be created: {why}")
