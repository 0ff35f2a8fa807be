"""Finds backends that are listeners of this host and send the traffic round in a loop [pure].

A listener of one service may be a backend of another service, as long as no chain of services leads back to its start.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import Final

from proxy.config.diagnostics import Report
from proxy.config.model import Service, Vrrp
from proxy.config.positions import Tab
from proxy.config.types import Transport
from proxy.config.validate import locate

Chain = tuple[str, ...]
"""The services of a loop: the first has the backend, and the last is the same service again."""

Place = tuple[str, Transport, int]
"""(service, transport, port): the place from which a listener's connections or datagrams are forwarded."""

WILDCARDS: Final = {4: "0.0.0.0", 6: "::"}


def check_loops(services: Collection[Service], own: Collection[str], tabs: Mapping[str, Tab], report: Report) -> None:
    """Report each backend of a loop at its place; `tabs` are the services' merged tables, `own` as for `loops`."""
    found = loops(services, own)
    for service in services:
        for index, backend in enumerate(service.backends):
            chain = found.get((service.name, backend.name))
            if chain is not None:
                spot = locate(tabs[service.name], ("backends", index))[1]
                report.error(spot, explain(backend.name, chain), "a backend is a server, not a listener in front of it")


def explain(backend: str, chain: Chain) -> str:
    """Return the message for a backend whose chain leads back to its service."""
    if len(chain) == 2:  # noqa: PLR2004 - the service itself, again
        return f"{backend} is a listener of this service: its traffic would loop"
    way = " -> ".join(chain)
    return f"{backend} is a listener of [service.{chain[1]}], which leads back here ({way}): its traffic would loop"


def is_wild(services: Iterable[Service]) -> bool:
    """Return True if any listener answers on every address."""
    return any(one.address in WILDCARDS.values() for service in services for one in service.listeners)


def loops(services: Collection[Service], own: Collection[str]) -> dict[tuple[str, str], Chain]:
    """Return (service, backend) -> the chain, for each backend that leads back to a listener of its service.

    `own` is the set of this host's addresses: a listener on every address answers there too, and always on loopback.
    """
    listeners = _Listeners(services, own)
    ways = {place: ends for service in services for place, ends in listeners.ways(service)}
    found: dict[tuple[str, str], Chain] = {}
    for place, ends in ways.items():
        for backend, end in ends:
            if (place[0], backend) not in found and (chain := _chain(end, place, ways)):
                found[place[0], backend] = (place[0], *chain)
    return found


def addresses(services: Iterable[Service], routers: Iterable[Vrrp], node: str) -> set[str]:
    """Return the addresses of a node that its configuration mentions."""
    found = {one.address for service in services for one in service.listeners} - set(WILDCARDS.values())
    for service in services:
        found.update(service.source_addresses, *(one.source_addresses for one in service.backends))
    for router in routers:
        bare = [one.partition("/")[0] for one in router.addresses]
        found.update(bare, (f"{one}%{router.interface}" for one in bare if ":" in one))
        found.update((router.members or {}).get(node, ()))
    return found


class _Listeners:
    """All listeners, by the address and port of the traffic that they receive."""

    def __init__(self, services: Iterable[Service], own: Collection[str]) -> None:
        self._own = own
        self._at: dict[tuple[str, str, int], str] = {}
        self._addresses: set[str] = set()
        for service in services:
            for one in service.listeners:
                self._at[one.address, one.transport, one.port] = service.name
                self._addresses.add(one.address)
        self._wild = {version for version, address in WILDCARDS.items() if address in self._addresses}

    def ways(self, service: Service) -> Iterator[tuple[Place, list[tuple[str, Place]]]]:
        """Yield each place of a service with its backends that are listeners, and the places of these listeners."""
        heard = [(one, as_) for one in service.backends if (as_ := self._heard_as(one.address))]
        if not heard:  # the usual case, so that thousands of backends are not combined with thousands of listeners
            return
        for transport, port in dict.fromkeys((one.transport, one.port) for one in service.listeners):
            ends = [
                (backend.name, (name, transport, backend.port or port))
                for backend, as_ in heard
                for address in as_
                if (name := self._at.get((address, transport, backend.port or port)))
            ]
            if ends:
                yield (service.name, transport, port), ends

    def _heard_as(self, address: str) -> tuple[str, ...]:
        """Return the listener addresses that receive traffic for this address."""
        found = (address,) if address in self._addresses else ()
        if not self._wild:
            return found  # without reading each of thousands of addresses
        ip = ip_address(address)
        # Traffic to the unspecified address goes to loopback.
        ours = ip.is_loopback or ip.is_unspecified or address in self._own
        return (*found, WILDCARDS[ip.version]) if ours and ip.version in self._wild else found


def _chain(start: Place, goal: Place, ways: Mapping[Place, Collection[tuple[str, Place]]]) -> Chain:
    """Return the services on the shortest way from one place to another, both included; empty if there is none."""
    before: dict[Place, Place | None] = {start: None}
    queue = deque([start])
    while queue:
        place = queue.popleft()
        if place == goal:
            chain: list[str] = []
            at: Place | None = place
            while at is not None:
                chain.append(at[0])
                at = before[at]
            return tuple(reversed(chain))
        for _, end in ways.get(place, ()):
            if end not in before:
                before[end] = place
                queue.append(end)
    return ()
