"""The hybrid logical clock that orders the acts of operators on two hosts [pure].

Laws:

- Every stamp of a clock is later than all stamps that it has given or observed, whatever the wall clock does.
- Two hosts never give the same stamp: the name of the host is part of it, and decides between equal times.
- A stamp from too far in the future is refused: a host with a wrong clock must not win against all later acts.

After Kulkarni and others, "Logical Physical Clocks" (2014).
"""

from typing import Annotated, Final, NamedTuple

from pydantic import Field

MOST_AHEAD: Final = 60_000
"""Milliseconds that a peer's clock may be ahead of ours."""
_MOST: Final = 1 << 53

Node = Annotated[str, Field(min_length=1, max_length=64)]


class Stamp(NamedTuple):
    """The time of an act: wall clock in Unix milliseconds, a counter for equal ones, the host."""

    wall: Annotated[int, Field(ge=0, le=_MOST)]
    turn: Annotated[int, Field(ge=0, le=_MOST)]
    node: Node


ZERO: Final = Stamp(0, 0, "-")
"""Before all others."""


class AheadError(Exception):
    """A stamp is from too far in the future; says by how much."""


class Clock:
    """The clock of the host `node`.  `now` is the wall clock in Unix milliseconds."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._last = (0, 0)

    def tick(self, now: int) -> Stamp:
        """Return a stamp for an act of this moment."""
        wall, count = self._last
        self._last = (now, 0) if now > wall else (wall, count + 1)
        return Stamp(*self._last, self._node)

    def observe(self, stamp: Stamp, now: int) -> None:
        """Take note of a peer's stamp; raises AheadError if it is too far in the future."""
        if stamp.wall - now > MOST_AHEAD:
            raise AheadError(f"its clock is {(stamp.wall - now) / 1000:.0f} s ahead of ours")
        self.restore(stamp)

    def restore(self, stamp: Stamp) -> None:
        """Take note of a stamp that this host has accepted before."""
        self._last = max(self._last, (stamp.wall, stamp.turn))
