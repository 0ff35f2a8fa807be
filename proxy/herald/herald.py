"""The herald process as the master sees it: one process without privileges that answers strangers on the network.

It is started only where the configuration needs it.  It may die or hang without harm: its listening sockets stay open in
the master, and the clients that wait in them are served by its successor.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Mapping

from proxy.config.model import Config
from proxy.herald.feed import EventFeed, Make, SnapshotFeed
from proxy.herald.listeners import HeraldListeners, Place, Prepared, places
from proxy.herald.peer_link import PeerLink
from proxy.processes.child import Child, Identity
from proxy.processes.keeper import Kept
from proxy.processes.messages import common as messages
from proxy.processes.messages import herald as herald_messages
from proxy.records.timeline import Timeline

SILENCE = 5.0  # s without a sign of life after which it is killed
REASONS = 32  # counters of refusals that are taken from it
FAREWELL = 5.0  # s that it may take to end in order
LARGEST = 64 << 10  # octets of a message from it: it talks to strangers, and has little to say


class Herald:
    """The herald process of a daemon, where it has one.

    `snapshot()` returns the view of the running system as `SnapshotFeed` has it, `told(text)` records what
    happens to the process.  `adopted` are the listening sockets of a predecessor.
    """

    def __init__(
        self,
        config: Config,
        identity: Identity,
        timeline: Timeline,
        snapshot: Make,
        told: Callable[[str], None],
        adopted: Mapping[Place, socket.socket] | None = None,
    ) -> None:
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._listeners = HeraldListeners(adopted)
        self._open = False
        self._kept = Kept(
            "proxy.heraldd", identity, silence=SILENCE, on_ready=self._begin, on_message=self._take,
            told=told, afterwards="restarted, its clients wait meanwhile", largest=LARGEST,
        )  # fmt: skip
        self._snapshots = SnapshotFeed(snapshot, self._kept.send)
        self._events = EventFeed(timeline, self._kept.send)
        self.link = PeerLink(config, timeline.add, self._kept.send, lambda: self._listeners.of("pair"))
        """The link to the peer."""
        self.log = self._kept.log
        self.life = 0
        """How many lives the process has had."""
        self.refused: dict[str, int] = {}
        """What the present life has refused, by reason."""

    @property
    def child(self) -> Child | None:
        """The process, if there is one."""
        return self._kept.child

    @property
    def children(self) -> list[Child]:
        """The process as a list, empty without one."""
        return self._kept.children

    @property
    def needed(self) -> bool:
        """Whether the configuration in force needs the process."""
        return self._config.web is not None or self._config.pair is not None

    # -- life

    def bind(self, warn: Callable[[str], None]) -> None:
        """Open the listening sockets of the start.  Raises HeraldListenError."""
        prepared = self.prepare(self._config)
        for text in prepared.warnings:
            warn(text)
        self._listeners.commit(prepared)

    def open(self) -> None:
        """Start the process, and let it serve: this daemon answers for the host now.

        A successor has it only from here on, as its start must not delay that of the workers.
        """
        self._open = True
        self._start()
        child = self._kept.ready
        if child is not None:
            self._serve(child)

    def look(self, now: float) -> None:
        """Find a process that hangs or is missing, and feed the one there is."""
        if not (self.needed and self._open):
            return
        self._kept.look(now)
        self._snapshots.look(now, self._kept.ready)
        self.link.look(now)

    def depart(self) -> None:
        """Let the process finish what it is answering, and end: a successor of this daemon serves now."""
        self._open = False
        self._quit()

    def recover(self) -> None:
        """Serve again after `depart`: there is no successor."""
        self._kept.resume()
        self.open()

    def kill(self) -> None:
        """End the process."""
        self.link.end()
        self._events.close()
        self._snapshots.close()
        self._kept.kill()

    def close(self) -> None:
        """Close the master's listening sockets."""
        self._listeners.close()

    def _start(self) -> None:
        if self.needed and self._open:
            self._kept.start()

    def _quit(self) -> None:
        """Have the process end in order, and start none in its place."""
        self.link.end()
        self._events.close()
        self._kept.release()
        self._kept.send(herald_messages.Depart())
        if self.child is not None:
            self._loop.call_later(FAREWELL, self.child.kill)

    # -- a change of the configuration

    def prepare(self, config: Config) -> Prepared:
        """Do all of a change that can fail: bind new listeners.  Raises HeraldListenError, with nothing bound."""
        return self._listeners.prepare(places(config))

    def commit(self, config: Config, prepared: Prepared) -> None:
        """Have another configuration, with the listeners that `prepare` has bound."""
        before, had = self._config, self.needed
        self._config = config
        changed = self._listeners.commit(prepared)
        self.link.configure(config)
        if had and not self.needed:
            self._quit()
        elif self.needed and not had:
            self._kept.resume()
            self._start()
        elif self.needed and (changed or before.web != config.web):
            self._tell_web()
        if had and self.needed and self._open:
            if before.pair != config.pair:
                self.link.begin()
            else:
                self.link.renew()

    def rows(self) -> list[tuple[Place, int]]:
        """Return each listener with its descriptor, for a successor of this daemon."""
        return self._listeners.rows()

    # -- the process

    def _begin(self) -> None:
        self.life += 1
        self.refused = dict.fromkeys(self.refused, 0)
        if not self.needed:
            self._quit()  # a reload has come while it started
        elif self._open and self._kept.ready is not None:
            self._serve(self._kept.ready)

    def _serve(self, child: Child) -> None:
        self._tell_web()
        self.link.begin()
        if self._config.web is not None:
            self._events.begin(child)

    def _tell_web(self) -> None:
        web = self._config.web
        sockets = self._listeners.of("web")
        self._kept.send(
            herald_messages.Web(
                self._config.node.name, [place.text for place in sockets], [] if web is None else list(web.allow)
            ),
            [sock.fileno() for sock in sockets.values()],
        )

    def _take(self, message: messages.Message) -> None:
        match message:
            case herald_messages.Wanted() if self._open:
                self._snapshots.wanted(time.monotonic())
                self._snapshots.look(time.monotonic(), self._kept.ready)
            case herald_messages.Refused(counts):
                self.refused |= {reason: count for reason, count in counts.items() if isinstance(count, int)}
                while len(self.refused) > REASONS:
                    self.refused.popitem()
            case _:
                self.link.take(message)
