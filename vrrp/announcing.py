"""When an active router announces its addresses: at once, again after `repeat-after`, then on every `refresh` (V8)."""

import math
from typing import Literal

from vrrp.events import Announce, RouterConfig

LEAST = 0.5
"""s between two announcements of a router.  One that is called for sooner waits for that time, with two exceptions.

A takeover is always announced at once.  So is a second conflict, as the first two come together: the router that yields
sends a last advert (law 4 of the router), and only an announcement after that advert corrects all of its announcements.
"""


class Announcing:
    """The schedule of announcements; `at` is when the next one is due (math.inf: never)."""

    __slots__ = ("_early", "_last", "_next", "at")

    def __init__(self) -> None:
        """Begin with nothing to announce."""
        self.at = math.inf
        self._last = self._early = -math.inf
        self._next: Literal["wish", "repetition", "refresh"] = "refresh"
        """The kind of the next announcement: one that was called for too soon, a repetition, or a refresh."""

    def stop(self) -> None:
        """Announce no more."""
        self.at = math.inf

    def begin(self, config: RouterConfig, now: float) -> Announce:
        """Announce in full, and again in full after `repeat-after`."""
        if now - self._last >= LEAST:
            return self._announce(config, now, config.announce_count)
        self._wish(now, LEAST)
        return Announce(config.addresses, 1)

    def again(self, config: RouterConfig, now: float) -> tuple[Announce, ...]:
        """Announce as `begin` does, after another host claimed the addresses; conflicts may come at any rate."""
        since = now - self._last
        if since >= LEAST:
            return (self._announce(config, now, config.announce_count if since >= config.advert_interval else 1),)
        if now - self._early >= LEAST:
            self._early = now
            return (self._announce(config, now, 1),)
        self._wish(now, LEAST)
        return ()

    def answer(self, config: RouterConfig, now: float) -> tuple[Announce, ...]:
        """Contradict another host's claim, at most once an interval: otherwise two hosts would never stop."""
        gap = max(config.advert_interval, LEAST)
        if now - self._last >= gap:
            return self.again(config, now)
        self._wish(now, gap)
        return ()

    def due(self, config: RouterConfig, now: float) -> tuple[Announce, ...]:
        """Return the announcement that is due now, if any."""
        if now < self.at:
            return ()
        if self._next == "wish":
            return (self._announce(config, now, 1),)
        count = config.announce_count if self._next == "repetition" else 1
        self._last, self._next = now, "refresh"
        self.at = now + max(config.announce_refresh, LEAST)
        return (Announce(config.addresses, count),)

    def _announce(self, config: RouterConfig, now: float, count: int) -> Announce:
        """Announce, and in full after `repeat-after`."""
        self._last, self._next = now, "repetition"
        self.at = now + max(min(config.announce_repeat_after, config.announce_refresh), LEAST)
        return Announce(config.addresses, count)

    def _wish(self, now: float, gap: float) -> None:
        """Announce once `gap` seconds after the last time, if nothing else is due before."""
        at = max(now, self._last + gap)
        if at < self.at:
            self.at, self._next = at, "wish"
