"""The listening sockets of a daemon: the master holds a reuseport group as long as its listener exists."""

import contextlib
import functools
import socket
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from proxy.backends.effective import Running
from proxy.relay.plan import Member
from proxy.workers import binding, plans
from proxy.workers.member_owners import Key


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

    def bind(self, running: Running, warn: Callable[[str, str], None]) -> None:
        """Bind every listener, or none: ListenError names all that cannot be bound.

        `warn(kind, text)` is called for an address that this host does not have yet and no virtual router brings.
        """
        failures: list[tuple[str, binding.BindError]] = []
        for service in running.config.services:
            slot = running.slots[0][service.name]
            tcp = plans.tcp_plan(service)
            for listener in service.listeners:
                where = Member(self._next, 0, slot, listener.transport, listener.address, listener.port)
                told = (lambda text: warn("listener", text)) if listener.vrrp is None else None
                workers, backlog = running.config.node.workers, service.tcp.backlog
                try:
                    group = binding.bind(where, workers, tcp, backlog, told)
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
        self._next = where.listener + 1
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

    def of(self, services: Collection[int]) -> list[int]:
        """Return the numbers of the listeners whose services have these slots."""
        return [number for number, member in self._members.items() if member.service in services]

    def member(self, key: Key) -> tuple[Member, int]:
        """Return a member and its descriptor."""
        listener, index = key
        return replace(self._members[listener], index=index), self._groups[key].fileno()

    def close(self) -> None:
        """Close the master's sockets; the workers have their own descriptors."""
        for sock in self._groups.values():
            sock.close()
        self._groups.clear()


def _zone(address: str) -> str:
    """Return the interface of "fe80::1%eth0"; nothing for an address without one."""
    return address.partition("%")[2]
