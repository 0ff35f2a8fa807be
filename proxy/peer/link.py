"""The state of the link to the peer, as the master sees it [pure].

    never -> connected -> silent -> connected ...
    never, silent -> refused: a host was there that is not our peer, or that does not accept us

`connected` needs more than a connection: the peer's master has said hello and has given a sign of life within `SILENT`.
Nothing waits for any state.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

State = Literal["never", "connected", "silent", "refused"]

BEAT: Final = 1.0
"""Seconds between two signs of life."""
SILENT: Final = 4.0
"""Seconds without a sign of life after which the peer counts as silent."""
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 10.0
"""Seconds until the next try to connect."""
STEADY: Final = 10.0
"""Seconds that a connection lasts before the next pause is a short one again."""


@dataclass(frozen=True, slots=True)
class Change:
    """A new state, `now` and in words, for the timeline."""

    state: State
    text: str
    fault: bool


class Link:
    """The state, as of the last call.  Times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self.state: State = "never"
        self.why = "no connection yet"
        self.since = now
        self._heard = now

    @property
    def connected(self) -> bool:
        """Returns True if the peer is there."""
        return self.state == "connected"

    def age(self, now: float) -> float:
        """Return the seconds since the last sign of life."""
        return now - self._heard

    def heard(self, now: float) -> Change | None:
        """Take a sign of life of the peer's master."""
        self._heard = now
        return self._move("connected", "the peer is there", now, fault=False)

    def lost(self, why: str, now: float, *, refused: bool = False) -> Change | None:
        """Take the end of a connection, or of a try to make one."""
        if refused:
            return self._move("refused", why, now, fault=True)
        if self.state == "connected":
            return self._move("silent", why, now, fault=True)
        if self.state != "refused":
            self.why = why  # the state is the same, and what it is due to may be another thing
        return None

    def look(self, now: float) -> Change | None:
        """Notice that the peer is silent."""
        if self.state == "connected" and now - self._heard >= SILENT:
            return self._move("silent", f"no sign of life for {SILENT:g} s", now, fault=True)
        return None

    def _move(self, state: State, why: str, now: float, *, fault: bool) -> Change | None:
        if state == self.state and (state != "refused" or why == self.why):
            return None
        self.state, self.why, self.since = state, why, now
        return Change(state, why, fault)


class Backoff:
    """The pause before the next try; `uniform` is a source of chance from 0 to 1."""

    def __init__(self, uniform: Callable[[], float] = random.random) -> None:
        self._uniform = uniform
        self._tries = 0

    def failed(self, lasted: float) -> float:
        """Return the seconds to wait after a connection that lasted so long (0: there was none)."""
        if lasted >= STEADY:
            self._tries = 0
        pause = min(FIRST_PAUSE * (1 << min(self._tries, 16)), LONGEST_PAUSE)
        self._tries += 1
        return pause * (0.5 + self._uniform() / 2)  # so that two hosts do not stay in step
