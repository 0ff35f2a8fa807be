"""The UDP sessions that a worker hands to its successor, or gets from its predecessor, in small lots."""

import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from proxy.relay.members import Members
from proxy.relay.native.poller import Poller
from proxy.relay.native.udp import Session, UdpListener
from proxy.relay.relays import Relays
from proxy.relay.udp.adoption import adopt
from proxy.relay.udp.handover import Row, read, row_of
from proxy.relay.udp.sessions import UdpService

LOT = 100  # sessions handed over in one turn
PAUSE = 0.002  # s between two turns
RETRY = 0.02  # s until a lot that could not be taken is offered again

HandOn = Callable[[list[list[Any]], list[int], bool], bool]
"""Called with rows of UDP sessions (`udp.handover`), as many descriptors, and whether they are the last ones.

It returns False if it cannot take them yet.
"""


class Handing:
    """The sessions of one worker that are on their way."""

    def __init__(self, poller: Poller, relays: Relays, members: Members) -> None:
        self._poller = poller
        self._relays = relays
        self._members = members
        self._left: list[tuple[UdpService, Session, int]] | None = None  # the newest one is the last

    @property
    def pending(self) -> bool:
        """Return True if sessions wait to be handed over."""
        return self._left is not None

    def collect(self) -> None:
        """Note all sessions and the sockets that their clients send to, before these are retired."""
        self._left = [
            (relay, session, session.listener.member.index)
            for relay in self._relays.values()
            if isinstance(relay, UdpService)
            for session in relay.sessions
        ]

    def stop(self) -> None:
        """Keep the sessions that are left: there is no successor any more."""
        self._left = None

    def hand(self, tell: HandOn, now: float) -> None:
        """Hand the next lot over, and go on when the traffic has had its turn."""
        if self._left is None:
            return
        lot = [(udp, one, member) for udp, one, member in self._left[-LOT:] if one.present]
        lot.reverse()
        last = len(self._left) <= LOT
        rows = [row_of(session, member, now) for _, session, member in lot]
        if tell(rows, [session.fileno() for _, session, _ in lot], last):
            for udp, session, _ in lot:
                os.close(udp.give(session))
            del self._left[-LOT:]
            if last:
                self._left = None
                self._members.tidy()
                return
            pause = PAUSE
        else:
            pause = RETRY
        self._poller.at(now + pause, partial(self.hand, tell))

    def adopt(self, rows: Sequence[Row], fds: Sequence[int]) -> int:
        """Continue a predecessor's sessions and own the descriptors; return how many cannot go on here."""
        return sum(not self._adopt(row, fd) for row, fd in zip(rows, fds, strict=True))

    def _adopt(self, row: Row, fd: int) -> bool:
        sock = socket.socket(fileno=fd)
        with contextlib.suppress(ValueError):  # another version's row
            moving = read(row)
            found = [
                polled
                for relay, polled in self._members.polled.values()
                if isinstance(polled, UdpListener)
                and (polled.member.text, relay.service.plan.name) == (moving.listener, moving.service)
            ]
            # Best the one that the client's datagrams arrive at.
            found.sort(key=lambda polled: polled.member.index != moving.member)
            if found and adopt(found[0], moving, sock):
                return True
        sock.close()
        return False
