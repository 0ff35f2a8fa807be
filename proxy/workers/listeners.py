"""The listening sockets of a daemon: a reuseport group for each listener, held by the master as long as the listener exists."""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.backends.effective import Running
from proxy.relay.plan import Member
from proxy.workers import binding, plans
from proxy.workers.member_owners import Key

if TYPE_CHECKING:
    import socket


class ListenError(Exception):
    """Some listeners cannot be had; one line for each."""


class Listeners:
    """All of them, by number."""

    def __init__(self) -> None:
        self._members: dict[int, Member] = {}
        self._groups: dict[Key, socket.socket] = {}

    def __len__(self) -> int:
        return len(self._members)

    def bind(self, running: Running, warn: Callable[[str, str], None]) -> None:
        """Bind every one, or none: ListenError tells all at once that cannot be had.

        `warn(kind, text)` hears of addresses that this host does not have yet and no virtual router brings.
        """
        failures: list[tuple[str, binding.BindError]] = []
        for service in running.config.services:
            slot = running.slots[0][service.name]
            tcp = plans.tcp_plan(service)
            for listener in service.listeners:
                number = len(self._members)
                where = Member(number, 0, slot, listener.transport, listener.address, listener.port)
                told = (lambda text: warn("listener", text)) if listener.vrrp is None else None
                try:
                    group = binding.bind(where, running.config.node.workers, tcp, service.tcp.backlog, told)
                except binding.BindError as error:
                    failures.append((service.name, error))
                    continue
                self._members[number] = where
                self._groups.update({(number, index): sock for index, sock in enumerate(group)})
        if failures:
            self.close()  # so that nobody finds us in our own way
            lines = binding.explain([error for _, error in failures])
            raise ListenError(
                "\n".join(f"service.{name}: {line}" for (name, _), line in zip(failures, lines, strict=True))
            )

    @property
    def numbers(self) -> list[int]:
        """The numbers of all."""
        return list(self._members)

    def of(self, services: Collection[int]) -> list[int]:
        """Return the numbers of those of the services in these slots."""
        return [number for number, member in self._members.items() if member.service in services]

    def member(self, key: Key) -> tuple[Member, int]:
        """Return a member and its descriptor."""
        listener, index = key
        return replace(self._members[listener], index=index), self._groups[key].fileno()

    def close(self) -> None:
        """Close all sockets of ours; the workers have their own."""
        for sock in self._groups.values():
            sock.close()
        self._groups.clear()
