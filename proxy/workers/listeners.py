"""The listening sockets of a daemon: the master holds a reuseport group as long as its listener exists."""

import contextlib
import functools
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace

from proxy.backends.effective import Running
from proxy.relay.plan import Member
from proxy.workers import binding, plans
from proxy.workers.member_owners import Key

Place = tuple[str, str, int]
"""(transport, address, port): what makes two listeners the same."""
Adopted = Mapping[Place, tuple[int, list[socket.socket]]]
"""The groups of a predecessor's listeners, with their numbers."""


class ListenError(Exception):
    """Some listeners cannot be bound; the message has one line for each."""


class Listeners:
    """All listeners, by number."""

    def __init__(self) -> None:
        self._members: dict[int, Member] = {}
        self._groups: dict[Key, socket.socket] = {}
        self._next = 0  # the number of the next listener
        self._again: dict[
            int, Callable[[Member], list[socket.socket]]
        ] = {}  # how to bind those of a link-local address
        self._refused: dict[int, str] = {}  # why one of those could not be bound again

    def __len__(self) -> int:
        return len(self._members)

    def bind(self, running: Running, warn: Callable[[str, str], None], adopted: Adopted | None = None) -> None:
        """Bind every listener, or none: ListenError names all that cannot be bound.

        `warn(kind, text)` is called for an address that this host does not have yet and no virtual router brings.  A
        listener in `adopted` has its sockets already, and keeps its number; the sockets are owned here from now on.
        """
        failures: list[tuple[str, binding.BindError]] = []
        adopted = adopted or {}
        self._next = max((number + 1 for number, _ in adopted.values()), default=0)
        for service in running.config.services:
            slot = running.slots[0][service.name]
            tcp = plans.tcp_plan(service)
            for listener in service.listeners:
                place = (listener.transport, listener.address, listener.port)
                number, group = adopted.get(place, (self._next, []))
                where = Member(number, 0, slot, *place)
                told = (lambda text: warn("listener", text)) if listener.vrrp is None else None
                workers, backlog = running.config.node.workers, service.tcp.backlog
                try:
                    group = group or binding.bind(where, workers, tcp, backlog, told)
                except binding.BindError as error:
                    failures.append((service.name, error))
                    continue
                self._keep(where, group)
                if _zone(listener.address):
                    self._again[where.listener] = functools.partial(
                        binding.bind, members=workers, tcp=tcp, backlog=backlog, warn=None
                    )
        if failures:
            self.close()  # or `explain` would name this daemon as the one that holds the port
            lines = binding.explain([error for _, error in failures])
            raise ListenError(
                "\n".join(f"service.{name}: {line}" for (name, _), line in zip(failures, lines, strict=True))
            )

    def renew(self, tell: Callable[[str], None]) -> Iterator[tuple[int, int]]:
        """Bind link-local listeners again whose interface was recreated; yield the old and the new number of each.

        Such a socket belongs to an interface by the kernel's number, and gets no traffic from a new interface of that
        name. A failure is reported once and tried again at the next call.
        """
        for old, bind in list(self._again.items()):
            where = self._members[old]
            here = 0
            with contextlib.suppress(OSError):
                here = socket.if_nametoindex(_zone(where.address))
            if here in {0, self._groups[old, 0].getsockname()[3]}:
                continue
            new = replace(where, listener=self._next)
            try:
                group = bind(new)
            except binding.BindError as error:
                if self._refused.get(old) != str(error):
                    self._refused[old] = str(error)
                    tell(f"{error}: no traffic arrives there, as its interface was recreated")
                continue
            self._keep(new, group)
            self._again[new.listener] = bind
            self._forget(old)
            tell(f"{where.text}: bound again, as its interface was recreated")
            yield old, new.listener

    def _keep(self, where: Member, group: list[socket.socket]) -> None:
        self._next = max(self._next, where.listener + 1)
        self._members[where.listener] = where
        self._groups.update({(where.listener, index): sock for index, sock in enumerate(group)})

    def _forget(self, number: int) -> None:
        """Close the sockets of one listener; its number is not given again."""
        del self._members[number], self._again[number]
        self._refused.pop(number, None)
        for key in [key for key in self._groups if key[0] == number]:
            self._groups.pop(key).close()

    @property
    def numbers(self) -> list[int]:
        """The numbers of all listeners."""
        return list(self._members)

    def size(self, number: int) -> int:
        """Return how many members the group of a listener has."""
        return sum(listener == number for listener, _ in self._groups)

    def groups(self) -> Iterator[tuple[Member, list[int]]]:
        """Yield each listener with the descriptors of its members, which stay ours."""
        for number, member in self._members.items():
            yield member, [self._groups[number, index].fileno() for index in range(self.size(number))]

    def of(self, services: Collection[int]) -> list[int]:
        """Return the numbers of the listeners whose services have these slots."""
        return [number for number, member in self._members.items() if member.service in services]

    def member(self, key: Key) -> tuple[Member, int]:
        """Return a member and its descriptor."""
        listener, index = key
        return replace(self._members[listener], index=index), self._groups[key].fileno()

    def close_unused(self, adopted: Adopted | None) -> None:
        """Close the sockets of a predecessor's listeners that the configuration does not have."""
        for number, group in (adopted or {}).values():
            if number not in self._members:
                for sock in group:
                    sock.close()

    def close(self) -> None:
        """Close the master's sockets; the workers have their own descriptors."""
        for sock in self._groups.values():
            sock.close()
        self._groups.clear()


def _zone(address: str) -> str:
    """Return the interface of "fe80::1%eth0"; nothing for an address without one."""
    return address.partition("%")[2]
