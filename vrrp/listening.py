"""Screens the adverts that a router receives, before the router's state matters."""

from vrrp.events import AdvertReceived, Command, Count, Peer, RouterConfig, Tell
from vrrp.fitness import OWNER
from vrrp.packet import Advert, IPAddress

_TELL_AGAIN = 10.0
"""Seconds until the same report may be repeated; counters count every case."""


class Listening:
    """Screens adverts, remembers the last peer, and decides whether a backup defers to it."""

    __slots__ = ("_best", "_preempt_at", "_told", "config", "peer")

    def __init__(self, config: RouterConfig) -> None:
        """Begin without any advert received."""
        self.config = config
        self.peer: Peer | None = None
        self._told: dict[str, float] = {}
        self._preempt_at: float | None = None
        self._best: tuple[IPAddress, int] | None = None

    def begin(self) -> None:
        """Forget the active router of an earlier time as backup."""
        self._preempt_at = None
        self._best = None

    def screened(self, event: AdvertReceived, now: float) -> tuple[Advert | None, tuple[Command, ...]]:
        """Return the advert if it counts for this router (V1, V10), and the counts and reports to make."""
        advert, config = event.advert, self.config
        stranger = self._stranger(event)
        if stranger:
            return None, (Count(stranger),)
        if advert.version == 2 and advert.interval != config.advert_interval:  # noqa: PLR2004 - RFC 3768 section 7.1
            text = f"{event.source} advertises every {advert.interval:g} s, ours is {config.advert_interval:g} s: its adverts are ignored"
            return None, (Count("interval_differs"), *self.once("interval", text, now))
        self.peer = Peer(event.source, advert.priority, advert.interval, now)
        if frozenset(advert.addresses) == frozenset(config.addresses):
            return advert, ()
        text = f"{event.source} advertises other addresses than ours: {', '.join(map(str, advert.addresses))}"
        return advert, (Count("addresses_differ"), *self.once("addresses", text, now))

    def _stranger(self, event: AdvertReceived) -> str:
        """Return the counter of an advert that is not for this router, "" if it is for this router."""
        advert, source, config = event.advert, event.source, self.config
        reasons = {
            "own": source == config.source,
            "not_peer": config.peers is not None and source not in config.peers,
            "family": source.version != config.family,
            "version": advert.version != config.version,
            "vrid": advert.vrid != config.vrid,
        }
        return next((name for name, holds in reasons.items() if holds), "")

    def defers(self, advert: Advert, source: IPAddress, ours: int, now: float) -> bool:
        """Return True if a backup of priority `ours` defers to the sender of an advert (law 2 of the router)."""
        best = advert.priority
        if self._best is not None and self._best[0] == source:
            best = max(best, self._best[1])
        self._best = source, best
        if advert.priority >= ours:
            self._preempt_at = None
            return True
        if ours == OWNER:
            return False
        if not self.config.preempt:
            return advert.priority == best
        if self._preempt_at is None:
            self._preempt_at = now + self.config.preempt_delay
        return now < self._preempt_at

    def once(self, key: str, text: str, now: float) -> tuple[Tell, ...]:
        """Return a report, or nothing if the same `key` was reported less than 10 s ago."""
        if now - self._told.get(key, -_TELL_AGAIN) < _TELL_AGAIN:
            return ()
        self._told[key] = now
        return (Tell(text),)
