"""Turns the results of a probe into a verdict: pure, one object for each probe of a backend.

The laws (H1, H2, H15):

1.  The start is `unknown`.  The very first result decides at once: a pass is `up` (or `reserve`), a failure is `down`.
    A backend without a verdict gets no traffic, so to wait for `fall` failures would protect nothing, and a verdict of
    `down` shows the reason.
2.  Until a backend has passed once, its first pass needs no `rise`: a server that boots after the balancer serves at once.
3.  Otherwise the verdict flips on consecutive results only: `fall` in a row to a worse state, `rise` in a row to a
    better one.  One agreeing result resets the count; failures that are not consecutive never add up.
4.  The states are ranked `down` < `reserve` < `up`.  Results of both worse kinds count together towards the milder one.
    Example with `fall` 3: an `up` backend fails, is fit for reserve only, and fails.  It goes to `reserve`: it was not fit
    for `up` three times in a row, but it was not dead three times in a row.
5.  A full server (`full`) refused the probe for lack of room, so the probe learned nothing else about it.  It counts as
    fit for reserve and keeps its clients.  Such a result never ends `down`: the cause of `down` may still be there.

A result that is our own fault (no descriptors left, a login that every backend refuses) is not a result: the caller must
not pass it to `observe`.  A backend without any other result since the start is `unknown`, and `unjudged` says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

State = Literal["unknown", "up", "down", "reserve"]
Require = Literal["all", "any"] | int
Phase = Literal["steady", "transition", "down"]

_RANKED: tuple[State, ...] = ("down", "reserve", "up")
_DOWN, _RESERVE, _UP = range(3)


class Outcome(NamedTuple):
    """The result of one run of a probe; `latency` in seconds, `reason` a text without a trailing full stop."""

    ok: bool
    reason: str
    latency: float
    credentials_rejected: bool = False
    reserve: bool = False
    value: float | None = None
    """The value that is compared with the other backends of the service (`health.compare`)."""
    weight: int | None = None
    """The weight that the backend asks for, if it asks."""
    standby: bool = False
    """A failure of a healthy backend in another role than the wanted one, such as a replica instead of a writer."""
    full: bool = False
    """A pass in reserve of a backend that refused the probe because it has no room for another client."""
    lag: float | None = None
    """How far the backend is behind the source of its data, in seconds, if the probe measures it."""


@dataclass(frozen=True, slots=True)
class Change:
    """A verdict that flipped; `since` is the time of the result that flipped it (monotonic seconds)."""

    previous: State
    state: State
    reason: str
    since: float


class Health:
    """The verdict of one probe on one backend for one subscriber, with that subscriber's `fall` and `rise`.

    A probe that is added to a backend with a verdict starts with that verdict (`state`), so that a reload flips nothing.
    """

    __slots__ = ("_above", "_below", "_passed", "_results", "fall", "last", "rise", "since", "state")

    def __init__(self, fall: int, rise: int, state: State = "unknown") -> None:
        """Count towards `fall` and `rise` (1 or more) from `state` on."""
        self.fall = fall
        self.rise = rise
        self.state: State = state
        self.since: float | None = None
        self.last: Outcome | None = None
        self._passed = state in {"up", "reserve"}
        self._results = 0
        self._above = [0, 0, 0]  # rank -> the number of the last result above it, counted from 1
        self._below = [0, 0, 0]  # rank -> the number of the last result below it

    def observe(self, outcome: Outcome, now: float) -> Change | None:
        """Take in one result, `now` in monotonic seconds; return the change that it caused, if any."""
        found = _rank(outcome)
        self.last = outcome
        if outcome.full and self.state == "down":
            return None
        self._results += 1
        for rank in range(found):
            self._above[rank] = self._results
        for rank in range(found + 1, len(_RANKED)):
            self._below[rank] = self._results
        if _RANKED[found] == self.state:  # nothing can flip: the most frequent case
            return None
        state, in_a_row = self._decided(found)
        self._passed = self._passed or (outcome.ok and not outcome.full)
        if state == self.state:
            return None
        change = Change(self.state, state, _counted(outcome, in_a_row), now)
        self.state = state
        self.since = now
        return change

    def _decided(self, found: int) -> tuple[State, int]:
        """Return the state after a result of rank `found`, and how many results in a row support it."""
        if self.state == "unknown" or (not self._passed and found > _DOWN):
            return _RANKED[found], 1
        rank = _RANKED.index(self.state)
        for worse in range(rank):  # the worst proven state wins
            if (in_a_row := self._results - self._above[worse]) >= self.fall:
                return _RANKED[worse], in_a_row
        for better in range(_UP, rank, -1):  # the best proven state wins
            if (in_a_row := self._results - self._below[better]) >= self.rise:
                return _RANKED[better], in_a_row
        return self.state, 0

    @property
    def phase(self) -> Phase:
        """The phase that decides which interval the next probe waits (H6).

        It is `transition` as long as the last result disagrees with the verdict.  If a single first failure decided
        `down`, it is also `transition` until `fall` failures have confirmed the verdict.
        """
        if self.last is None:
            return "steady"
        if _RANKED[_rank(self.last)] != self.state and not (self.last.full and self.state == "down"):
            return "transition"
        if self.state != "down":
            return "steady"
        return "down" if self._passed or self._results - self._above[_DOWN] >= self.fall else "transition"


def _rank(outcome: Outcome) -> int:
    if not outcome.ok:
        return _DOWN
    return _RESERVE if outcome.reserve else _UP


def _counted(outcome: Outcome, in_a_row: int) -> str:
    if in_a_row < 2:  # noqa: PLR2004 - one result needs no count
        return outcome.reason
    results = "failures" if not outcome.ok else "times" if outcome.reserve else "passes"
    return f"{outcome.reason} ({in_a_row} {results} in a row)"


def combine(states: Sequence[State], require: Require) -> State:
    """Combine the verdicts of a backend's probes into the backend's verdict (H15).  The caller omits report-only probes.

    `require` says how many probes must be up: `all`, `any` (1) or K.  The verdict is `up` if enough probes are up; else
    `reserve` if enough are up or in reserve; else `unknown` if the probes without a verdict could still make enough; else
    `down`.  A K above the number of probes means all of them.  A backend without any probe is `up`.
    """
    count = len(states)
    needed = {"all": count, "any": min(1, count)}[require] if isinstance(require, str) else min(require, count)
    up = states.count("up")
    fit = up + states.count("reserve")
    if up >= needed:
        return "up"
    if fit >= needed:
        return "reserve"
    return "unknown" if fit + states.count("unknown") >= needed else "down"


@dataclass(frozen=True, slots=True)
class Opinion:
    """One probe's contribution to its backend's verdict; `label` distinguishes the probe from the others ("tcp 636").

    `hindrance` is the fault on our side that kept the last run from judging the backend, as text, "" if there is none.
    """

    label: str
    state: State
    reason: str
    report_only: bool = False
    hindrance: str = ""


def _deciding(opinions: Sequence[Opinion]) -> list[Opinion]:
    return [opinion for opinion in opinions if not opinion.report_only]


def judge(opinions: Sequence[Opinion], require: Require) -> tuple[State, str]:
    """Return a backend's verdict and its reason: the reasons of the probes that support the verdict (H13, H15)."""
    deciding = _deciding(opinions)
    if not deciding:
        return "up", "no probe decides"
    state = combine([opinion.state for opinion in deciding], require)
    if len(deciding) == 1:
        return state, deciding[0].reason
    speaking = [opinion for opinion in deciding if opinion.state == state] or deciding
    return state, "; ".join(f"{opinion.label}: {opinion.reason}" for opinion in speaking)


def unjudged(opinions: Sequence[Opinion], require: Require) -> str:
    """Return the fault on our side that alone keeps a backend from a verdict, "" if it has one or may be dead.

    No probe speaks against such a backend: if the hindered probes had passed, it would be up or in reserve.
    """
    deciding = _deciding(opinions)
    hindered = [opinion for opinion in deciding if opinion.state == "unknown" and opinion.hindrance]
    if not hindered or combine([opinion.state for opinion in deciding], require) != "unknown":
        return ""
    supposed: list[State] = ["up" if opinion in hindered else opinion.state for opinion in deciding]
    if combine(supposed, require) not in {"up", "reserve"}:
        return ""
    if len(deciding) == 1:
        return hindered[0].hindrance
    return "; ".join(f"{opinion.label}: {opinion.hindrance}" for opinion in hindered)
