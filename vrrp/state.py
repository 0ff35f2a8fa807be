"""The data of a virtual router and its smallest steps; the decisions are in vrrp/router.py."""

import math
from typing import Final

from vrrp import events as ev
from vrrp.announcing import Announcing
from vrrp.events import Command, Peer, RouterConfig, State
from vrrp.fitness import Fitness, Part
from vrrp.listening import Listening
from vrrp.packet import Advert
from vrrp.timers import ActiveDownTimer

NO_LINK: Final = "the link is down"
NO_SOURCE: Final = {
    4: "the interface has no IPv4 address of this host to send from",
    6: "the interface has no link-local IPv6 address of this host to send from",
}
_ANSWER_GAP = 0.01


class RouterState:
    """The part of `Router` that decides nothing."""

    def __init__(self, config: RouterConfig, now: float, *, grouped: bool = False, leader: bool = True) -> None:
        """Begin in `init`, idle until `Startup`; `grouped` and `leader` are for `Group` alone."""
        self.config = config
        self.state: State = "init"
        self.reason = "not started"
        """Why it is in this state, in words."""
        self.since = now
        """When it entered this state."""
        self.standby = False
        self.wants = False
        """Whether it wants to be active, and waits for the others of its group."""
        self.undecided = True
        """Whether it has neither been active nor deferred to another host since it started."""
        self._grouped, self._leader = grouped, leader
        self._out: list[Command] = []
        self._heard = Listening(config)
        self._down = ActiveDownTimer(config.advert_interval)
        self._fitness = Fitness(config.priority)
        if config.source is None:
            self._fitness.faults[NO_SOURCE[config.family]] = None
        self._started_at: float | None = None
        self._verdicts = not config.awaits_verdicts
        # While active
        self._announcing = Announcing()
        self._advert_at = self._offer_until = math.inf
        self._sent_at = -math.inf
        self._brisk = (math.inf, -math.inf)  # a shorter interval that is kept, and until when
        self._leased_at = now
        self._offer: ev.Shutdown | ev.Standby | None = None
        self._tie: tuple[float, float] | None = None  # first and last advert of a tie that the leader decides

    @property
    def peer(self) -> Peer | None:
        """The last advert of another host that counted."""
        return self._heard.peer

    @property
    def effective_priority(self) -> int:
        """The priority that it advertises while active."""
        return self._fitness.effective

    @property
    def own_priority(self) -> int:
        """The effective priority without the group."""
        return self._fitness.own

    @property
    def priority_parts(self) -> tuple[Part, ...]:
        """The parts that add up to the effective priority: ("configured", 100), ("service dns", -60), ("clamp", ...)."""
        return self._fitness.explained

    @property
    def faults(self) -> tuple[str, ...]:
        """The causes of `fault`, oldest first."""
        return tuple(self._fitness.faults)

    @property
    def deadline(self) -> float | None:
        """When the next `Tick` is due at the latest; None if the router waits for nothing."""
        at = math.inf
        if self.state == "active":
            lapse = self._leased_at + self.config.lease
            at = min(self._advert_at, self._announcing.at, self._offer_until, lapse)
        elif self.state == "backup":
            at = self._down.deadline(self.effective_priority)
        elif self.state == "init" and self._started_at is not None:
            at = self._held_until()
        return None if math.isinf(at) else at

    def _held_until(self) -> float:
        """Return when the first election begins, at the latest."""
        started = math.inf if self._started_at is None else self._started_at
        return started + max(self.config.start_delay, 0.0 if self._verdicts else self.config.hold_off)

    def _screened(self, event: ev.AdvertReceived, now: float) -> Advert | None:
        """Return the advert if it counts for this router (law 8)."""
        advert, commands = self._heard.screened(event, now)
        self._emit(*commands)
        return advert

    def _emit(self, *commands: Command) -> None:
        self._out.extend(commands)

    def _send(self, now: float, priority: int | None = None) -> None:
        self._emit(ev.SendAdvert(self.effective_priority if priority is None else priority))
        self._sent_at = now
        self._advert_at = now + self._pause(now)

    def _pause(self, now: float) -> float:
        """Return the seconds from one advert to the next."""
        interval, until = self._brisk
        return min(self.config.advert_interval, interval) if now < until else self.config.advert_interval

    def _answer(self, now: float) -> None:
        if now - self._sent_at >= _ANSWER_GAP:
            self._send(now)
        else:
            self._advert_at = min(self._advert_at, self._sent_at + _ANSWER_GAP)

    def _move(self, state: State, reason: str, now: float) -> None:
        if state != self.state:
            self._emit(ev.Count("transitions"), ev.Notify(state, self.state, reason))
            self.since = now
        self.state, self.reason = state, reason
