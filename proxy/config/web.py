"""What is wrong, or unwise, about [web] beside the services and the network that it answers."""

import ipaddress
from collections.abc import Sequence

from proxy.config.diagnostics import Report
from proxy.config.model import Service
from proxy.config.positions import Spot, Tab
from proxy.config.settings import WebSettings
from proxy.config.types import parse_endpoint
from proxy.config.validate import locate


def check_web(web: WebSettings, tab: Tab, spot: Spot, services: Sequence[Service], report: Report) -> None:
    """Report listeners that a service has, or that nobody may ask, or that everybody may; `spot` is that of the table."""
    taken = {listener.text: service.name for service in services for listener in service.listeners}
    beyond = [text for text in web.listen if not _on_loopback(text)]
    for index, text in enumerate(web.listen):
        owner = taken.get(f"{text}/tcp")
        if owner is not None:
            where = locate(tab, ("listen", index))[1] if "listen" in tab else spot
            report.error(where, f"[service.{owner}] listens on {text} already")
    if beyond and "allow" not in tab:
        report.warn(
            locate(tab, ("listen",))[1],
            f"{beyond[0]} is reached from other hosts, and all of them get 403: allow is loopback by default",
            'allow = ["10.0.0.0/24"], the network of those who watch',
        )
    everybody = [index for index, network in enumerate(web.allow) if ipaddress.ip_network(network).prefixlen == 0]
    if beyond and everybody:
        report.warn(
            locate(tab, ("allow", everybody[0]))[1],
            f"everybody who reaches {beyond[0]} can read the names, addresses and faults of all services: there is no login",
            "list the networks of those who watch",
        )


def _on_loopback(text: str) -> bool:
    return ipaddress.ip_address(parse_endpoint(text)[0].partition("%")[0]).is_loopback
