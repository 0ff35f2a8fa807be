"""The listening sockets of the herald process, which the master opens: a port that is taken is an error of start or reload."""

import contextlib
import os
import socket
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from proxy.config.model import Config
from proxy.config.settings import TcpSettings
from proxy.config.types import parse_endpoint
from proxy.relay.plan import Member, TcpPlan
from proxy.workers import binding

BACKLOG = 128  # clients that may wait, as they do while the process is restarted


class HeraldListenError(Exception):
    """A listener cannot be bound; one line for each, with the holder of the port."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """What listens where: `use` is the table of the file, "web" or "pair"."""

    use: str
    address: str
    port: int

    @property
    def text(self) -> str:
        """The address and port as the file has them."""
        return self._member.text.removesuffix("/tcp")

    @property
    def _member(self) -> Member:
        return Member(-1, 0, -1, "tcp", self.address, self.port)

    def bound(self, warnings: list[str]) -> socket.socket:
        """Return a new socket that listens here.  Raises binding.BindError."""
        return binding.bind(self._member, 1, _PLAN, BACKLOG, warnings.append)[0]


_TCP = TcpSettings()
_PLAN = TcpPlan(_TCP.connect_timeout, _TCP.idle_timeout, _TCP.fin_timeout, _TCP.keepalive, _TCP.user_timeout)


def places(config: Config) -> list[Place]:
    """Return where the herald process of a configuration listens."""
    found = []
    for text in () if config.web is None else config.web.listen:
        address, port = parse_endpoint(text)
        found.append(Place("web", address, port or 0))
    if config.pair is not None and (own := config.pair.members.get(config.node.name)) is not None:
        found.append(Place("pair", own, config.pair.port))
    return found


@dataclass(slots=True)
class Prepared:
    """Listeners that are to be in force: their places, and the sockets of those that are new."""

    places: list[Place]
    new: dict[Place, socket.socket] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def close(self) -> None:
        """Close what has not been put into force."""
        for sock in self.new.values():
            sock.close()
        self.new.clear()


class HeraldListeners:
    """The sockets by place.  A place that stays keeps its socket, with the clients that wait in it."""

    def __init__(self, adopted: Mapping[Place, socket.socket] | None = None) -> None:
        """Own the sockets that a predecessor had."""
        self._sockets: dict[Place, socket.socket] = dict(adopted or {})

    def prepare(self, wanted: Iterable[Place]) -> Prepared:
        """Bind what is new, without any effect on what there is.  Raises HeraldListenError, and then binds nothing."""
        prepared = Prepared(list(dict.fromkeys(wanted)))
        failures: list[tuple[Place, binding.BindError]] = []
        for place in prepared.places:
            if place in self._sockets:
                continue
            try:
                prepared.new[place] = place.bound(prepared.warnings)
            except binding.BindError as error:
                failures.append((place, error))
        if failures:
            prepared.close()  # or `explain` would name this daemon as the one that holds the port
            lines = binding.explain([error for _, error in failures])
            raise HeraldListenError(
                "\n".join(f"[{place.use}] {line}" for (place, _), line in zip(failures, lines, strict=True))
            )
        return prepared

    def commit(self, prepared: Prepared) -> bool:
        """Have these listeners, and close the others; returns True if anything has changed."""
        gone = self._sockets.keys() - set(prepared.places)
        changed = bool(gone or prepared.new)
        for place in gone:
            self._sockets.pop(place).close()
        self._sockets |= prepared.new
        prepared.new = {}
        return changed

    def of(self, use: str) -> dict[Place, socket.socket]:
        """Return the sockets of one table of the file."""
        return {place: sock for place, sock in self._sockets.items() if place.use == use}

    def rows(self) -> list[tuple[Place, int]]:
        """Return each place with the descriptor of its socket."""
        return [(place, sock.fileno()) for place, sock in self._sockets.items()]

    def close(self) -> None:
        """Close the master's sockets; the process has descriptors of its own."""
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()


def adopted(fds: Collection[tuple[Place, int]]) -> dict[Place, socket.socket]:
    """Return the sockets of a predecessor, by descriptor; -1, and what does not listen at its place, is left out."""
    found: dict[Place, socket.socket] = {}
    for place, fd in fds:
        if fd < 0:
            continue
        try:
            sock = socket.socket(fileno=fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.close(fd)
            continue
        if sock.type != socket.SOCK_STREAM or sock.getsockname()[1] != place.port or place in found:
            sock.close()
            continue
        sock.setblocking(False)
        found[place] = sock
    return found
