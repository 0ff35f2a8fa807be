"""The link to the peer as the master sees it: the connection that the herald process keeps, and its state.

Everything here is bounded and returns at once: a link that is killed, stopped, slow or full of lies costs the master one
small message at a time, and decides nothing.
"""

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from health.secrets import Kind, NoSecret, read
from proxy.config.hostfiles import distrust
from proxy.config.model import Config
from proxy.config.settings import PairSettings
from proxy.herald.listeners import Place
from proxy.peer import tls
from proxy.peer.framing import LARGEST
from proxy.peer.link import Change, Link
from proxy.peer.messages import Any_, Hello, Message, MessageError, decode, encode
from proxy.processes.messages import common as messages
from proxy.processes.messages import herald as herald_messages
from proxy.records.timeline import Level, Tell

AGAIN: Final = 10.0
"""Seconds until certificates that cannot be read are tried again."""
_KIND: Final = Kind("certificate", tls.LARGEST)

Send = Callable[[messages.Message, Sequence[int]], None]


class PeerLink:
    """The link of a daemon; without [pair] it does nothing.

    `send(message, fds)` reaches the herald process, `doors()` returns the sockets that listen for the peer.  Whoever uses
    the link sets `on_connection` and `on_message`, and calls `heard` for a sign of life.
    """

    def __init__(self, config: Config, tell: Tell, send: Send, doors: Callable[[], Mapping[Place, object]]) -> None:
        self._config = config
        self._tell = tell
        self._send = send
        self._doors = doors
        self.state = Link(time.monotonic())
        self.since = time.time()
        """When the state began, in Unix seconds."""
        self._number = 0
        self._greeted = False
        self._again = float("inf")
        self._fault = ""
        self._certificates: tuple[bytes, bytes] | None = None  # ours and the peer's, that are in use
        self.on_connection: Callable[[], None] = lambda: None
        """Called when there is a connection, to say hello."""
        self.on_message: Callable[[Any_], None] = lambda _: None
        """Called with each message of the peer after its hello, and with the hello."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when the state has changed."""
        self.counters = {"sent": 0, "received": 0, "octets_sent": 0, "octets_received": 0, "unknown": 0, "refused": 0}

    @property
    def settings(self) -> PairSettings | None:
        """The table of the file, None without one."""
        return self._config.pair

    @property
    def peer(self) -> str:
        """The name of the other host, "" without [pair]."""
        return "" if self.settings is None else self.settings.peer_of(self._config.node.name)

    @property
    def connected(self) -> bool:
        """Returns True if the peer's master is there."""
        return self.state.connected

    def configure(self, config: Config) -> None:
        """Have another configuration."""
        if config.pair != self._config.pair:
            self.state, self.since = Link(time.monotonic()), time.time()
            self._lost()
        self._config = config

    # -- the herald process

    def begin(self) -> None:
        """Have the process, which is new or is to change, keep the connection."""
        self._lost()
        settings, node = self.settings, self._config.node.name
        self._again = float("inf")
        if settings is None:
            self._send(herald_messages.Link(""), ())
            return
        try:
            own, peer = _certificates(settings)
        except (NoSecret, tls.PairCertificateError) as error:
            self._again = time.monotonic() + AGAIN
            if self._fault != str(error):
                self._fault = str(error)
                self._tell("pair", self.peer, f"no link: {error}", level="error")
            return
        self._fault, self._certificates = "", (own, peer)
        fds = [door.fileno() for door in self._doors().values()]  # type: ignore[attr-defined]
        self._send(
            herald_messages.Link(
                node, self.peer, settings.members[node], settings.members[self.peer], settings.port, own.decode("latin-1"),
                peer.decode("latin-1"),
            ),
            fds[:1],
        )  # fmt: skip

    def renew(self) -> None:
        """Begin anew if the files have other certificates by now; what cannot be used changes nothing."""
        if self.settings is None or self._certificates is None:
            return
        try:
            changed = _certificates(self.settings) != self._certificates
        except (NoSecret, tls.PairCertificateError) as error:
            self._tell("pair", self.peer, f"the former certificates stay in use: {error}", level="error")
            return
        if changed:
            self.begin()

    def end(self) -> None:
        """Keep no connection any more."""
        self._again = float("inf")
        self._moved(self.state.lost("the link has ended here", time.monotonic()))
        self._lost()

    def look(self, now: float) -> None:
        """Notice that the peer is silent, or that its certificate may be there now."""
        if now >= self._again:
            self.begin()
        if self.settings is not None:
            self._moved(self.state.look(now))

    def take(self, message: messages.Message) -> None:
        """Take a message of the herald process."""
        match message:
            case herald_messages.Linked(number):
                self._number, self._greeted = number, False
                self.on_connection()
            case herald_messages.Unlinked(number, why, refused):
                if number == self._number:
                    self._lost()
                self._moved(self.state.lost(why[:200], time.monotonic(), refused=refused))
            case herald_messages.FromPeer(number, payload) if number == self._number and number:
                self._received(payload)

    def _received(self, payload: str) -> None:
        try:
            octets = base64.b64decode(payload, validate=True)
            message = decode(octets)
        except (ValueError, MessageError) as error:
            self.refuse(f"it sends nonsense: {error}")
            return
        self.counters["received"] += 1
        self.counters["octets_received"] += len(octets)
        if message is None:
            self.counters["unknown"] += 1
        elif isinstance(message, Hello):
            if message.node != self.peer:
                self.refuse(f"it calls itself {message.node}, and our peer is {self.peer}")
                return
            self._greeted = True
            self.on_message(message)
        elif self._greeted:
            self.on_message(message)
        else:
            self.refuse(f"it begins with {message.kind} and not with hello")

    # -- for those who use the link

    def send(self, message: Message) -> bool:
        """Send the peer a message; returns False if there is no connection, or if it is too large."""
        octets = encode(message)
        if not self._number or len(octets) > LARGEST:
            return False
        self.counters["sent"] += 1
        self.counters["octets_sent"] += len(octets)
        self._send(herald_messages.ToPeer(self._number, base64.b64encode(octets).decode()), ())
        return True

    def heard(self, now: float) -> None:
        """Take a sign of life of the peer's master."""
        self._moved(self.state.heard(now))

    def refuse(self, why: str) -> None:
        """End the connection: the peer does not do what it should."""
        self.counters["refused"] += 1
        number = self._number
        self._lost()
        self._send(herald_messages.Drop(number, why), ())
        self._moved(self.state.lost(why[:200], time.monotonic(), refused=True))

    def _lost(self) -> None:
        self._number, self._greeted = 0, False

    def _moved(self, change: Change | None) -> None:
        if change is None:
            return
        self.since = time.time()
        level: Level = "warning" if change.fault else "info"
        self._tell("pair", self.peer, f"{change.state}: {change.text}", level=level, state=change.state)
        self.on_change()


def _certificates(settings: PairSettings) -> tuple[bytes, bytes]:
    """Return our certificate with its key, and the peer's; raises NoSecret and tls.PairCertificateError."""
    own, peer = _read(settings.certificate or ""), _read(settings.peer_certificate or "")
    tls.check(own, peer)
    return own, peer


def _read(path: str) -> bytes:
    if why := distrust(path, running=True):
        raise NoSecret(str(why))
    return read(path, _KIND)
