"""Which services show their backends the clients' addresses: each as soon as there are transparent sockets for it."""

import socket
from collections.abc import Sequence

from proxy.relay.members import Members
from proxy.relay.plan import Member
from proxy.relay.relays import Relays
from proxy.relay.service import Service
from proxy.relay.sockets.transparent import Kind, Stock, Want


class Transparency:
    """The transparent services of one worker, and its stock of sockets for them."""

    def __init__(self, want: Want, members: Members, relays: Relays) -> None:
        self.stock = Stock(want)
        self._members = members
        self._relays = relays
        self._opaque: list[Service] = []  # services that become transparent as soon as there are sockets for it

    def add(self, service: Service) -> None:
        """Let a new service, which has no clients yet, be as its plan says."""
        if service.plan.transparent:
            service.stock = self.stock

    def keep(self, service: Service, member: Member) -> None:
        """Keep sockets ready for the clients of a member."""
        if service.plan.transparent:
            self.stock.keep(_kind(member))

    def change(self, service: Service) -> None:
        """Show backends the clients' addresses, or no longer; not before there are sockets for it."""
        self.forget(service)
        if not service.plan.transparent:
            service.stock = None
        elif service.stock is None:
            for polled in self._members.of(service).values():
                self.stock.keep(_kind(polled.member))
            self._opaque.append(service)
            self._begin()

    def forget(self, service: Service) -> None:
        """Wait no longer for a service's sockets."""
        if service in self._opaque:
            self._opaque.remove(service)

    def prepared(self, kind: Kind, asked: int, socks: Sequence[socket.socket]) -> None:
        """Put sockets into the stock, which the master has made for a request of `asked` ones."""
        self.stock.put(kind, asked, socks)
        self._begin()

    def _begin(self) -> None:
        for service in list(self._opaque):
            kinds = {_kind(polled.member) for polled in self._members.of(service).values()}
            if all(map(self.stock.is_answered, kinds)):
                self._opaque.remove(service)
                service.stock = self.stock
                for relay in self._relays.of(service):
                    relay.changed((), ())


def _kind(member: Member) -> Kind:
    """Return the kind of transparent sockets for a member's clients."""
    family = socket.AF_INET6 if ":" in member.address else socket.AF_INET
    return family, socket.SOCK_STREAM if member.transport == "tcp" else socket.SOCK_DGRAM
