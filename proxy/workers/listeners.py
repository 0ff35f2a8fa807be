"""The listening sockets of a daemon: the master holds a reuseport group as long as its listener exists."""

import contextlib
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from proxy.backends.effective import Running
from proxy.config.model import Service
from proxy.relay.plan import Member, TcpPlan
from proxy.relay.sockets import stream_options
from proxy.workers import binding, plans, spreading
from proxy.workers.member_owners import Key

Warn = Callable[[str, str], None]
"""Called with a kind and a text."""
Place = tuple[str, str, int]
"""(transport, address, port): what makes two listeners the same."""
Adopted = Mapping[Place, tuple[int, list[socket.socket]]]
"""The groups of a predecessor's listeners, with their numbers."""


LINGER = 35.0  # s; a worker keeps the socket of a removed UDP listener for at most 30 s


class ListenError(Exception):
    """Some listeners cannot be bound; the message has one line for each."""


@dataclass(slots=True)
class Bound:
    """The sockets of listeners that are new, one group a place, and warnings about them."""

    groups: dict[Place, list[socket.socket]] = field(default_factory=dict)
    numbers: dict[Place, int] = field(default_factory=dict)
    """Of those that a predecessor had: they keep their numbers."""
    warnings: list[str] = field(default_factory=list)

    def close(self) -> None:
        """Close the sockets that no listener has taken."""
        for group in self.groups.values():
            for sock in group:
                sock.close()
        self.groups.clear()


@dataclass(frozen=True, slots=True)
class Relocation:
    """The effect of another configuration: the numbers of new listeners, of moved ones (old, new), and of removed ones."""

    added: tuple[int, ...] = ()
    moved: tuple[tuple[int, int], ...] = ()
    removed: tuple[int, ...] = ()


class Listeners:
    """All listeners, by number; the same place has another number when another service gets it."""

    def __init__(self) -> None:
        self._members: dict[int, Member] = {}
        self._numbers: dict[Place, int] = {}
        self._groups: dict[int, Sequence[socket.socket]] = {}
        self._options: dict[int, tuple[TcpPlan, int]] = {}
        """The TCP options of each listener's sockets, and its backlog."""
        self._spreading: frozenset[int] = frozenset()
        """The slots of the services whose datagrams are spread over the members."""
        self._steered: dict[int, bool] = {}
        """How the kernel was asked to choose the members of a UDP listener: spread or not; without entry, not asked."""
        self._next = 0  # the number of the next listener
        self._refused: dict[int, str] = {}  # why the listener of a link-local address could not be bound again
        self._lingering: dict[Place, tuple[Sequence[socket.socket], float]] = {}
        """The sockets of removed UDP listeners, each until a time."""

    def __len__(self) -> int:
        return len(self._members)

    def bind(self, running: Running, warn: Warn, adopted: Adopted | None = None) -> None:
        """Bind every listener, or none: ListenError names all that cannot be bound.

        `warn(kind, text)` is called for an address that this host does not have yet and no virtual router brings.  A
        listener in `adopted` has its sockets already, and keeps its number; the sockets are owned here from now on.
        """
        bound = Bound()
        for place, (number, group) in (adopted or {}).items():
            bound.groups[place], bound.numbers[place] = group, number
            self._next = max(self._next, number + 1)
        self.prepare(running.config.services, running.config.node.workers, bound)
        for text in bound.warnings:
            warn("listener", text)
        self.commit(running, bound)

    def prepare(self, services: Sequence[Service], workers: int, adopted: Bound | None = None) -> Bound:
        """Bind the listeners of these services that are new, `workers` sockets each; has no effect on the others.

        Those in `adopted` are bound already.  ListenError names all that cannot be bound; then none is.
        """
        bound = adopted or Bound()
        failures: list[tuple[str, binding.BindError]] = []
        for service in services:
            for listener in service.listeners:
                where = Member(-1, 0, -1, listener.transport, listener.address, listener.port)
                place = _place(where)
                if place in self._numbers or place in bound.groups or place in self._lingering:
                    continue
                warn = bound.warnings.append if listener.vrrp is None else None
                try:
                    group = binding.bind(where, workers, plans.tcp_plan(service), service.tcp.backlog, warn)
                except binding.BindError as error:
                    failures.append((service.name, error))
                else:
                    bound.groups[place] = group
        if failures:
            bound.close()  # or `explain` would name this daemon as the one that holds the port
            lines = binding.explain([error for _, error in failures])
            raise ListenError(
                "\n".join(f"service.{name}: {line}" for (name, _), line in zip(failures, lines, strict=True))
            )
        return bound

    def commit(self, running: Running, bound: Bound) -> Relocation:
        """Take the listeners of the configuration in force, the new ones with the sockets that `prepare` has bound.

        The sockets of removed ones are closed here: the workers have descriptors of their own, and serve what is queued.
        Those of UDP are kept for LINGER: workers still send answers through theirs, and if the listener comes back with
        other sockets, the kernel gives some of its datagrams to the old ones, which nobody reads.
        """
        before = dict(self._numbers)
        self._spreading = frozenset(
            running.slots[0][service.name] for service in running.config.services if spreading.spreads(service)
        )
        added, moved = [], []
        for service in running.config.services:
            slot, options = running.slots[0][service.name], (plans.tcp_plan(service), service.tcp.backlog)
            for listener in service.listeners:
                place = (listener.transport, listener.address, listener.port)
                old = before.pop(place, None)
                if old is None:
                    number = bound.numbers.get(place, self._next)
                    group = bound.groups.pop(place) if place in bound.groups else self._lingering.pop(place)[0]
                    self._keep(Member(number, 0, slot, *place), group, options)
                    if place in bound.numbers:
                        self._tune(number)
                    added.append(self._numbers[place])
                    continue
                if self._members[old].service != slot:
                    moved.append((old, self._move(old, slot)))
                self._retune(self._numbers[place], options)
        bound.close()
        for gone, number in before.items():
            if gone[0] == "udp":
                self._lingering[gone] = self._groups.pop(number), time.monotonic() + LINGER
            self._forget(number)
        return Relocation(tuple(added), tuple(moved), tuple(before.values()))

    def steer(self, warn: Callable[[str], None]) -> None:
        """Let the kernel spread the datagrams of DNS listeners over their members, and not those of the others.

        Not a part of `commit`: the groups of a predecessor are its own until it lets go.  `warn` is called once for each
        listener with which the kernel refuses; it serves nevertheless.
        """
        for number in self._members:
            self._steer(number, warn)

    def look(self) -> None:
        """Close the sockets of removed UDP listeners that no worker needs any more."""
        now = time.monotonic()
        for place, (group, until) in list(self._lingering.items()):
            if now >= until:
                del self._lingering[place]
                for sock in group:
                    sock.close()

    def renew(self, tell: Callable[[str], None]) -> Iterator[tuple[int, int]]:
        """Bind link-local listeners again whose interface was recreated; yield the old and the new number of each.

        Such a socket belongs to an interface by the kernel's number, and gets no traffic from a new interface of that
        name. A failure is reported once and tried again at the next call.
        """
        for old, where in [(number, member) for number, member in self._members.items() if _zone(member.address)]:
            here = 0
            with contextlib.suppress(OSError):
                here = socket.if_nametoindex(_zone(where.address))
            if here in {0, self._groups[old][0].getsockname()[3]}:
                continue
            tcp, backlog = self._options[old]
            try:
                group = binding.bind(where, len(self._groups[old]), tcp, backlog, None)
            except binding.BindError as error:
                if self._refused.get(old) != str(error):
                    self._refused[old] = str(error)
                    tell(f"{error}: no traffic arrives there, as its interface was recreated")
                continue
            new = replace(where, listener=self._next)
            self._keep(new, group, (tcp, backlog))
            self._forget(old)
            self._steer(new.listener, tell)
            tell(f"{where.text}: bound again, as its interface was recreated")
            yield old, new.listener

    def _keep(self, where: Member, group: Sequence[socket.socket], options: tuple[TcpPlan, int]) -> None:
        number = where.listener
        self._next = max(self._next, number + 1)
        self._members[number] = where
        self._numbers[_place(where)] = number
        self._options[number] = options
        self._groups[number] = group

    def _move(self, old: int, slot: int) -> int:
        """Give a listener to another service; return its new number."""
        new = replace(self._members[old], listener=self._next, service=slot)
        self._keep(new, self._groups.pop(old), self._options[old])
        self._forget(old)
        return new.listener

    def _retune(self, number: int, options: tuple[TcpPlan, int]) -> None:
        """Give the sockets of a TCP listener other options; connections inherit them from now on."""
        before, self._options[number] = self._options[number], options
        if before != options:
            self._tune(number)

    def _tune(self, number: int) -> None:
        if self._members[number].transport != "tcp":
            return
        tcp, backlog = self._options[number]
        for sock in self._groups[number]:
            stream_options.tune(sock, tcp.keepalive, tcp.user_timeout)
            sock.listen(backlog)

    def _steer(self, number: int, warn: Callable[[str], None]) -> None:
        where, group = self._members[number], self._groups[number]
        wanted = where.service in self._spreading
        if where.transport != "udp" or len(group) == 1 or self._steered.get(number) == wanted:
            return
        self._steered[number] = wanted
        try:
            (spreading.spread if wanted else spreading.gather)(group)
        except OSError as error:
            what = (
                "one client's queries all go to one worker" if wanted else "a session's datagrams go to several workers"
            )
            warn(f"{where.text}: {what}, as the kernel refuses: {error.strerror}")

    def _forget(self, number: int) -> None:
        """Close the sockets of one listener, if it still has some; its number is not given again."""
        where = self._members.pop(number)
        del self._options[number]
        self._refused.pop(number, None)
        self._steered.pop(number, None)
        if self._numbers.get(_place(where)) == number:
            del self._numbers[_place(where)]
        for sock in self._groups.pop(number, ()):
            sock.close()

    @property
    def numbers(self) -> list[int]:
        """The numbers of all listeners."""
        return list(self._members)

    def size(self, number: int) -> int:
        """Return how many members the group of a listener has."""
        return len(self._groups[number])

    def groups(self) -> Iterator[tuple[Member, list[int]]]:
        """Yield each listener with the descriptors of its members, which stay ours."""
        for number, group in self._groups.items():
            yield self._members[number], [sock.fileno() for sock in group]

    def find(self, text: str) -> int | None:
        """Return the number of the listener "10.0.0.10:514/udp", None if there is none."""
        return next((number for number, member in self._members.items() if member.text == text), None)

    def of(self, services: Collection[int]) -> list[int]:
        """Return the numbers of the listeners whose services have these slots."""
        return [number for number, member in self._members.items() if member.service in services]

    def member(self, key: Key) -> tuple[Member, int]:
        """Return a member and its descriptor."""
        listener, index = key
        return replace(self._members[listener], index=index), self._groups[listener][index].fileno()

    def close(self) -> None:
        """Close the master's sockets; the workers have their own descriptors."""
        for group in (*self._groups.values(), *(group for group, _ in self._lingering.values())):
            for sock in group:
                sock.close()
        self._groups.clear()
        self._lingering.clear()


def _place(member: Member) -> Place:
    return member.transport, member.address, member.port


def _zone(address: str) -> str:
    """Return the interface of "fe80::1%eth0"; nothing for an address without one."""
    return address.partition("%")[2]
