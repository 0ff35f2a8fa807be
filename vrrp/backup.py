"""What a backup does: it listens to the active router, and takes over when that router is silent (laws 2, 3 and 9).

The laws and the table are in vrrp/router.py.
"""

import math

from vrrp import events as ev
from vrrp.fitness import LEAVING
from vrrp.state import RouterState


class Backup(RouterState):
    """The handlers of a backup, and the step from there to an active router."""

    def _listen(self, reason: str, now: float) -> None:
        """Become a backup, or begin again as one."""
        self._move("backup", reason, now)
        self._heard.begin()
        self._relisten(now)

    def _relisten(self, now: float) -> None:
        self.wants = False
        if self.standby:
            self._down.stop()
        else:
            self._down.listen(now)

    def _advert_backup(self, event: ev.AdvertReceived, now: float) -> None:
        advert = self._screened(event, now)
        if advert is None:
            return
        if advert.priority == LEAVING:
            if not self.standby and not self.wants:
                self._down.hasten(now)
        elif self._heard.defers(advert, event.source, self.effective_priority, now):
            self.undecided = False
            self._down.interval = advert.interval
            self._relisten(now)

    def _tick_backup(self, _: ev.Tick, now: float) -> None:
        late = now - self._down.deadline(self.effective_priority)
        if late < 0:
            return
        if late > self._down.interval:
            self._emit(
                ev.Count("stalled"),
                ev.Tell(f"this process did not run for {late:.2f} s: it listens before it takes over"),
            )
            self._down.listen_again(now)
        else:
            self._win(self._silence(now), now)

    def _silence(self, now: float) -> str:
        """Return why the timer fired, in words."""
        peer = self.peer
        if self._fitness.last_resort:
            return "no other host has taken the addresses"
        if peer is None:
            return "no advert from any host"
        if self._down.hastened:
            return f"{peer.source} left"
        if peer.priority and peer.priority < self.effective_priority and now - peer.heard_at < 3 * self._down.interval:
            return f"our priority is higher: {self.effective_priority}, {peer.source} has {peer.priority}"
        return f"no advert from {peer.source} for {now - peer.heard_at:.2f} s"

    def _win(self, reason: str, now: float) -> None:
        """Take over, or in a group, ask for it."""
        self._down.stop()
        if self._grouped:
            self.wants = True
            self.reason = reason
        else:
            self._take_over(reason, now)

    def _group_take_over(self, _: ev.GroupTakeOver, now: float) -> None:
        self._take_over(self.reason, now)

    def _take_over(self, reason: str, now: float) -> None:
        addresses = self.config.addresses
        self._down.stop()
        self.wants = self.undecided = False
        self._offer, self._offer_until, self._tie = None, math.inf, None
        self._leased_at = now
        self._send(now)
        self._emit(ev.InstallAddresses(addresses))
        self._emit(self._announcing.begin(self.config, now))
        self._move("active", reason, now)
