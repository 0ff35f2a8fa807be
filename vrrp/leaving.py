"""How an active router leaves: by a hand-over, a resignation or a failure (laws 4 to 6).

The laws and the table are in vrrp/router.py.
"""

import math
from dataclasses import replace
from typing import Final

from vrrp import events as ev
from vrrp.backup import Backup
from vrrp.events import State
from vrrp.fitness import LEAVING

GRACE: Final = 0.05
"""Seconds that pending DNS answers get before a reset of connections, and a peer beyond an interval to take over."""


class Leaving(Backup):
    """The handlers of a router that is to leave, and the step from an active router to another state."""

    def _stop(self, event: ev.Shutdown, now: float) -> None:
        self._started_at = None
        self._down.stop()
        self.wants = False
        self._move("init", event.reason, now)

    def _offer_or_leave(self, event: ev.Shutdown | ev.Standby, now: float) -> None:
        """Hand over (law 5).  A standby does not call off a shutdown."""
        if isinstance(event, ev.Shutdown) and event.at_once:
            self._send(now, LEAVING)
            self._leave(event, event.reason, now)
        elif self._offer is None:
            self._offer, self._offer_until = event, now + self.config.advert_interval + GRACE
            self._send(now, LEAVING)
            self._advert_at = math.inf
        elif isinstance(event, ev.Shutdown) or isinstance(self._offer, ev.Standby):
            self._offer = event

    def _end_offer(self, now: float) -> None:
        offer = self._offer
        if isinstance(offer, ev.Standby) and offer.if_taken:
            self._offer, self._offer_until = None, math.inf
            self._send(now)
            self._emit(ev.Tell(f"{offer.reason}: no other host took the addresses over; this host stays active"))
        elif offer is not None:
            self._send(now, LEAVING)  # the first one may have been lost
            self._leave(offer, f"{offer.reason}; no other host took the addresses over", now)

    def _leave(self, event: ev.Shutdown | ev.Standby, reason: str, now: float) -> None:
        self._offer = event
        self.standby = self.standby or isinstance(event, ev.Standby)
        self._down.interval = self.config.advert_interval
        self._give_up("backup", reason, now, GRACE)

    def _give_up(self, state: State, reason: str, now: float, grace: float = 0.0) -> None:
        """Remove the addresses and go to `state`, or where the hand-over under way was to lead."""
        addresses = self.config.addresses
        offer, self._offer, self._offer_until = self._offer, None, math.inf
        self._advert_at = math.inf
        self._announcing.stop()
        self._emit(ev.ResetConnections(addresses, grace), ev.RemoveAddresses(addresses))
        if isinstance(offer, ev.Shutdown):
            self._stop(replace(offer, reason=reason), now)
            return
        if isinstance(offer, ev.Standby) and not offer.if_taken:
            self.standby = True
        if state == "backup":
            self._listen(reason, now)
        else:
            self._move(state, reason, now)

    def _group_yield(self, event: ev.GroupYield, now: float) -> None:
        self._send(now, LEAVING)
        if self._offer is not None:
            self._leave(self._offer, event.reason, now)
            return
        self._down.interval = self.config.advert_interval
        self._give_up("backup", event.reason, now, GRACE)

    def _standby(self, event: ev.Standby, _: float) -> None:
        if not self.standby:
            self._emit(ev.Tell(f"{event.reason}: this host does not take the addresses until it is resumed"))
        self.standby = True
        if self.state == "backup":
            self._down.stop()
            self.wants = False
