"""Which packets with a router's VRID count as adverts, and why the others do not: each has a counter."""

from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

from vrrp import packet
from vrrp.events import AdvertReceived
from vrrp.packet import IPAddress
from vrrp.signing import Signing
from vrrp.sockets import Packet

REFUSED_AGAIN: Final = 60.0
"""s until the same reason to refuse signed adverts is reported again."""


class Receiving:
    """The packets of one router; `tell(words)` reports to people."""

    def __init__(self, counters: Counter[str], tell: Callable[[str], None]) -> None:
        self._counters = counters
        self._tell = tell
        self._reported: dict[str, float] = {}  # reason -> when it was reported last

    def screen(
        self, got: Packet, version: packet.Version, peers: frozenset[IPAddress] | None, signing: Signing, wall: float
    ) -> AdvertReceived | None:
        """Return the advert in a packet; count why it is none, or does not count, and return None.

        `peers` are those of unicast, None for multicast.  `wall` is the wall clock, which signatures have.
        """
        source, destination = ip_address(got.source), ip_address(got.destination)
        if peers is not None and source not in peers:
            self._counters["not_peer"] += 1  # V10: before any field is read
            return None
        advert = packet.parse(got.data, source, destination, got.ttl, version=version, multicast=peers is None)
        if isinstance(advert, packet.Drop):
            self._counters[advert.reason] += 1
            return None
        refused = signing.check(got.data, source, wall)
        if refused is not None:
            self._refuse(refused, source, wall)
            return None
        self._counters["adverts_received"] += 1
        return AdvertReceived(advert, source)

    def _refuse(self, drop: packet.Drop, source: IPAddress, wall: float) -> None:
        """Count an advert without a valid signature, and report each reason once in a while."""
        self._counters[drop.reason] += 1
        if abs(wall - self._reported.get(drop.reason, -REFUSED_AGAIN)) >= REFUSED_AGAIN:
            self._reported[drop.reason] = wall
            self._tell(f"an advert from {source} was ignored: {drop.detail}")
