"""Checks [pair], the link to the other host."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from health.secrets import Kind, NoSecret, read
from proxy.config.diagnostics import Report, did_you_mean
from proxy.config.hostfiles import Use, check_file
from proxy.config.merge import without
from proxy.config.model import Service, Vrrp
from proxy.config.positions import Spot, Tab
from proxy.config.settings import PairSettings
from proxy.config.validate import locate, validate
from proxy.peer import tls

CERTIFICATE: Final = Kind("certificate", tls.LARGEST)
_MAKE: Final = "make them with `steelyard pair init`"


def pair(
    tree: Tab, nodes: Sequence[str], node: str, routers: Iterable[Vrrp], report: Report, *, use: Use = "elsewhere"
) -> PairSettings | None:
    """Return [pair]; None if there is none, or after reporting.  `use` says what it is read for."""
    tab = tree.get("pair")
    if not isinstance(tab, Tab):
        if tab is not None:
            report.error(tree.spots["pair"], "pair must be a table: write [pair]")
        return None
    before = report.errors
    if "key-file" in tab:
        report.error(
            tab.spots["key-file"],
            "key-file is not possible: Python has no TLS with a pre-shared key before 3.13",
            f"use certificate and peer-certificate: {_MAKE}",
            at="key",
        )
        tab = without(tab, "key-file")
    settings = validate(PairSettings, tab, report, "[pair]")
    if settings is None:
        return None
    _check_members(settings, tab, nodes, node, report, need=use == "now")
    _check_addresses(settings, tab, routers, report)
    _check_files(settings, tab, report, use=use)
    return settings if report.errors == before else None


def check_peer_verdicts(
    services: Iterable[Service], tabs: Mapping[str, Tab], settings: PairSettings | None, report: Report
) -> None:
    """Report services that ask for the peer's verdicts where none come."""
    for service in services:
        if service.peer_verdict == "ignore" or (settings is not None and "verdicts" in settings.share):
            continue
        spot = tabs[service.name].spots.get("peer-verdict", tabs[service.name].here)
        why = "there is no [pair]" if settings is None else 'share in [pair] lacks "verdicts"'
        report.error(spot, f'peer-verdict = "{service.peer_verdict}" needs the verdicts of the other host: {why}')


def _check_members(
    settings: PairSettings, tab: Tab, nodes: Sequence[str], node: str, report: Report, *, need: bool
) -> None:
    spot, members = locate(tab, ("members",))[1], settings.members
    for name in members:
        if nodes and name not in nodes:
            place = locate(tab, ("members", name))[1]
            report.error(place, f'"{name[:60]}" is not in nodes', did_you_mean(name, nodes), at="key")
    if len(members) != 2:  # noqa: PLR2004 - a pair
        report.error(spot, f"a pair has two members, and here are {len(members)}", at="key")
    elif node not in members and (need or nodes):
        report.error(spot, f'this host is called "{node}", which is no member of the pair', at="key")


def _check_addresses(settings: PairSettings, tab: Tab, routers: Iterable[Vrrp], report: Report) -> None:
    virtual = {address.partition("/")[0]: router.name for router in routers for address in router.addresses}
    seen: dict[str, str] = {}
    for name, address in settings.members.items():
        spot: Spot = locate(tab, ("members", name))[1]
        if address in virtual:
            report.error(
                spot,
                f"{address} is an address of [vrrp.{virtual[address]}]: whichever host has it, the pair needs others to talk",
            )
        if address in seen:
            report.error(spot, f"{address} is the address of {seen[address]} as well")
        seen.setdefault(address, name)
    if len({ipaddress.ip_address(address).version for address in seen}) > 1:
        report.error(locate(tab, ("members",))[1], "one member has an IPv4 address and the other one an IPv6 address")


def _check_files(settings: PairSettings, tab: Tab, report: Report, *, use: Use) -> None:
    if settings.certificate is None or settings.peer_certificate is None:
        missing = "certificate" if settings.certificate is None else "peer-certificate"
        report.error(tab.here, f'"{missing}" is missing in [pair]', _MAKE, at="key")
        return
    files = (("certificate", settings.certificate, True), ("peer-certificate", settings.peer_certificate, False))
    before = len(report.sorted())
    for key, path, secret in files:
        check_file(path, tab.spots[key], report, use=use, secret=secret)
    if use == "elsewhere" or len(report.sorted()) > before:
        return
    try:
        own, peer = (read(path, CERTIFICATE) for _, path, _ in files)
        tls.check(own, peer)
    except NoSecret:
        return  # not readable for this user: `run` will check it
    except tls.PairCertificateError as why:
        key = "peer-certificate" if str(why).startswith("peer-certificate") else "certificate"
        report.error(tab.spots[key], str(why), _MAKE)
