"""The listening sockets of one worker: polled, emptied before they close, or retired until their last answer is sent."""

import math
import os
import socket
import time
from collections.abc import Callable

from proxy.relay.native.poller import Poller
from proxy.relay.native.udp import UdpListener
from proxy.relay.plan import Member
from proxy.relay.relays import Listener, Relay
from proxy.relay.service import Service

DRAIN_LOOK = 0.01  # s between two looks whether a draining listener is dry
DRAIN_LIMIT = 1.0  # s until listeners are closed although clients still come: they must not hold a worker
RETIRED_LIMIT = 30.0  # s that UDP sessions without a pause keep the socket of a listener that is gone

Key = tuple[int, int]
"""(number of the listener, number of the socket in its group)"""


class Members:
    """All listening sockets; `counted(n)` is called with the number of polled ones when it changes."""

    def __init__(self, poller: Poller, counted: Callable[[int], None]) -> None:
        self._poller = poller
        self._counted = counted
        self.polled: dict[Key, tuple[Relay, Listener]] = {}
        self._drying: dict[
            Key, tuple[float, float]
        ] = {}  # to be retired when they are empty -> (at the latest, how long)
        self._looking = False
        self.retired: list[tuple[Relay, Listener, float]] = []
        """No longer polled, open for pending answers, at most until a time."""

    def listen(self, key: Key, relay: Relay, member: Member, sock: socket.socket) -> None:
        """Poll a socket and own it."""
        try:
            self.polled[key] = relay, relay.listen(member, sock)
        except OSError:
            sock.close()
            raise
        self._counted(len(self.polled))

    def of(self, service: Service) -> dict[Key, Listener]:
        """Return the polled sockets of a service."""
        return {key: polled for key, (relay, polled) in self.polled.items() if relay.service is service}

    def retire(self, key: Key, until: float = math.inf) -> None:
        """Stop polling a socket; it is closed when all queries and sessions that came by it are over, or `until` then."""
        self._drying.pop(key, None)
        relay, polled = self.polled.pop(key)
        relay.unlisten(polled)  # type: ignore[arg-type]
        self._counted(len(self.polled))
        self.retired.append((relay, polled, until))
        self.tidy()

    def dry(self, key: Key, *, for_good: bool) -> None:
        """Serve what is queued in a socket, nothing that comes later, then retire it.

        If the listener is gone `for_good`, UDP sessions keep the socket no longer than they are expected to: a new
        listener may want the port.
        """
        if key in self._drying:
            return
        _, polled = self.polled[key]
        polled.stop()
        now = time.monotonic()
        self._drying[key] = now + DRAIN_LIMIT, RETIRED_LIMIT if for_good else math.inf
        if not self._looking:
            self._looking = True
            self._poller.at(now + DRAIN_LOOK, self._look)

    def _look(self, now: float) -> None:
        """Retire each socket that was to be emptied and is empty."""
        for key, (ends, lasts) in list(self._drying.items()):
            _, polled = self.polled[key]
            if now >= ends or not polled.reading:
                self.retire(key, now + lasts)
        self._looking = bool(self._drying)
        if self._looking:
            self._poller.at(now + DRAIN_LOOK, self._look)

    def hand(self, old: Relay, new: Relay) -> None:
        """Let a service's new relay poll the sockets of the former one, which still answers through its own."""
        for key, (relay, polled) in list(self.polled.items()):
            if relay is old and key not in self._drying:
                # Not `socket.dup`, which makes both of them block: Python does not know that they do not.
                sock = socket.socket(fileno=os.dup(polled.sock.fileno()))
                self.retire(key)
                self.listen(key, new, polled.member, sock)

    def tidy(self) -> None:
        """Close the retired sockets that no pending answer needs."""
        now = self._poller.now
        still = []
        for relay, polled, until in self.retired:
            if isinstance(polled, UdpListener) and until < math.inf and (now >= until or polled.udp.is_quiet(polled)):
                polled.udp.leave(polled)
            if polled.needed:
                still.append((relay, polled, until))
            else:
                polled.sock.close()
        self.retired = still

    def close(self) -> None:
        """Close all sockets."""
        for relay, polled in self.polled.values():
            relay.unlisten(polled)  # type: ignore[arg-type]
            polled.sock.close()
        for _, polled, _ in self.retired:
            polled.sock.close()
        self.polled.clear()
        self.retired.clear()
