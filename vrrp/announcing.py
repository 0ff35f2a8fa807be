"""When an active router announces its addresses: at once, again after `repeat-after`, then on every `refresh` (V8)."""

import math

from vrrp.events import Announce, RouterConfig


class Announcing:
    """The schedule of announcements; `at` is when the next one is due (math.inf: never)."""

    __slots__ = ("_count", "_last", "at")

    def __init__(self) -> None:
        """Begin with nothing to announce."""
        self.at = math.inf
        self._last = -math.inf
        self._count = 1

    def stop(self) -> None:
        """Announce no more."""
        self.at = math.inf

    def begin(self, config: RouterConfig, now: float) -> Announce:
        """Announce in full, and again in full after `repeat-after`."""
        return self._full(config, config.announce_count, now)

    def again(self, config: RouterConfig, now: float) -> Announce:
        """As `begin`, but once only if the last time is less than an advert interval ago: conflicts may go on."""
        recent = now - self._last < config.advert_interval
        return self._full(config, 1 if recent else config.announce_count, now)

    def due(self, config: RouterConfig, now: float) -> tuple[Announce, ...]:
        """Announce what the schedule asks for now."""
        if now < self.at:
            return ()
        count, self._count, self._last = self._count, 1, now
        self.at = now + config.announce_refresh
        return (Announce(config.addresses, count),)

    def answer(self, config: RouterConfig, now: float) -> tuple[Announce, ...]:
        """Contradict somebody else's claim, at most once an interval: two that answer each other would never end."""
        return (self.again(config, now),) if now - self._last >= config.advert_interval else ()

    def _full(self, config: RouterConfig, count: int, now: float) -> Announce:
        self._last, self._count = now, config.announce_count
        self.at = now + min(config.announce_repeat_after, config.announce_refresh)
        return Announce(config.addresses, count)
