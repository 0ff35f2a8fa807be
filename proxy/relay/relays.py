"""The relays of one worker: for each service one for TCP and one for UDP, and former ones that finish what they have.

A service keeps its relays when it changes.  Only if its UDP is handled in another way (DNS, sessions, datagram by
datagram) a new relay takes over the listeners, and the former one stays until its last answer.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

from proxy.relay.dns.journal import Journal
from proxy.relay.dns.service import DnsService
from proxy.relay.native.dns_listener import Listener as DnsListener
from proxy.relay.native.one_way import PerDatagramListener
from proxy.relay.native.poller import Poller
from proxy.relay.native.tcp_listener import TcpListener
from proxy.relay.native.udp import UdpListener
from proxy.relay.plan import ServicePlan
from proxy.relay.service import Service
from proxy.relay.target import Target
from proxy.relay.tcp.service import Admission, TcpService
from proxy.relay.udp.one_way import PerDatagramService
from proxy.relay.udp.sessions import UdpService

Relay = DnsService | UdpService | PerDatagramService | TcpService
Listener = DnsListener | UdpListener | PerDatagramListener | TcpListener


class Relays:
    """All relays; the present ones by (service slot, transport)."""

    def __init__(self, poller: Poller, admission: Admission, journal: Journal) -> None:
        self._poller = poller
        self._admission = admission
        self._journal = journal
        self._present: dict[tuple[int, str], Relay] = {}
        self._former: list[Relay] = []
        self._workers = 1

    def __getitem__(self, key: tuple[int, str]) -> Relay:
        return self._present[key]

    def values(self) -> Iterable[Relay]:
        """Return all relays, former ones too."""
        return chain(self._present.values(), self._former)

    def of(self, service: Service) -> list[Relay]:
        """Return the relays of one service, former ones too."""
        return [relay for relay in self.values() if relay.service is service]

    def add(self, service: Service) -> None:
        """Make the relays of a new service."""
        tcp = TcpService(service, self._poller, self._admission)
        self._present[service.plan.slot, "tcp"] = tcp
        self._admission.services.append(tcp)
        self._present[service.plan.slot, "udp"] = self._udp(service)

    def changed(self, service: Service, gone: Sequence[Target], moved: Sequence[Target]) -> tuple[Relay, Relay] | None:
        """Let a service's relays use its changed plan; return (former, new) if a new one must take over listeners."""
        for relay in self.of(service):
            relay.cut(gone)
            relay.changed(gone, moved)
        key = service.plan.slot, "udp"
        old = self._present[key]
        if isinstance(old, _kind(service.plan)):
            return None
        new = self._present[key] = self._udp(service)
        self._former.append(old)
        return old, new

    def share(self, workers: int) -> None:
        """Take a share of the limits that hold for all workers of this host together."""
        self._workers = workers
        for relay in self.values():
            if isinstance(relay, DnsService):
                relay.share(workers)

    def remove(self, service: Service) -> None:
        """End what is left in a service, and forget its relays."""
        for relay in self.of(service):
            relay.close()
            if isinstance(relay, TcpService):
                self._admission.services.remove(relay)
        self._present = {key: relay for key, relay in self._present.items() if relay.service is not service}
        self._former = [relay for relay in self._former if relay.service is not service]

    def tidy(self) -> None:
        """End the former relays that have finished; drop what changes have left behind."""
        for relay in [relay for relay in self._former if relay.idle]:
            relay.close()
            self._former.remove(relay)
        for relay in self._present.values():
            if isinstance(relay, TcpService):
                relay.tidy()

    def _udp(self, service: Service) -> Relay:
        kind = _kind(service.plan)
        if kind is DnsService:
            dns = DnsService(service, self._poller, self._journal)
            dns.share(self._workers)
            return dns
        return kind(service, self._poller)  # type: ignore[call-arg]


def _kind(plan: ServicePlan) -> type[DnsService | PerDatagramService | UdpService]:
    """Return how a service handles UDP."""
    if plan.protocol == "dns":
        return DnsService
    return PerDatagramService if plan.udp.per_datagram else UdpService
