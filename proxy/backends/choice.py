"""Which of a service's backends serve it now: tiers, quorum, reserve, fail-open and failback.  Pure, no clock.

The master decides for all workers of a host, since the decision depends on the one before.  It sends the result to the
workers as the verdict that they act on (`ordered`).

Laws:
- The lowest tier in which `quorum` backends are up serves.  If no tier has that many, all fit backends serve, up or in
  reserve, of any tier.  If none is fit, `fail-open` lets every backend serve as though it were up; without it none
  serves. For `fail-open` a backend without a verdict counts as unfit once the wait for first verdicts is over (`late`).
- To return to a lower tier `quorum-hysteresis` more backends must be up, but never more than the tier has.
- Without `failback` the tier that serves goes on as long as it meets the quorum, even if a lower tier is back.
- With the scheduler `failover` one backend serves and the others stand by: the one with the highest weight, then the
  first in the file; without `failback` the backend that serves now goes on as long as it is fit.
- Until every backend has a verdict the decision does not depend on the one before, so that the order of the first
  verdicts does not matter.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from proxy.balance.backend import Admin, Verdict

Level = int | Literal["all", "open", "none"]
"""The tier that serves; "all" that is fit, because no tier meets the quorum; "open": all, fit or not; "none"."""


@dataclass(frozen=True, slots=True)
class Rules:
    """A service's settings; `single` is the scheduler failover."""

    quorum: int = 1
    hysteresis: int = 0
    fail_open: bool = False
    failback: bool = True
    single: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """One backend, in file order; `weight` is the one in effect."""

    name: str
    tier: int
    weight: float
    verdict: Verdict
    admin: Admin

    @property
    def wanted(self) -> bool:
        """Whether the admin state and the weight let it serve."""
        return self.admin == "ready" and self.weight > 0


@dataclass(frozen=True, slots=True)
class Choice:
    """The backends that serve, their level, and the reason in words.

    `settled` once every wanted backend has had a verdict; `waits` while a backend without a verdict would serve instead
    if it passed.
    """

    level: Level
    serving: tuple[str, ...]
    why: str
    settled: bool = True
    waits: bool = False

    @property
    def rank(self) -> float:
        """Return a number that is larger for a worse level: the tier, and more than any tier for the other levels."""
        if isinstance(self.level, int):
            return self.level
        return {"all": 1e3, "open": 1e4, "none": 1e5}[self.level]


def choose(
    rules: Rules, candidates: Sequence[Candidate], before: Choice | None = None, *, late: bool = False
) -> Choice:
    """Return the next choice after `before`, which is None at the start.  `late`: the first verdicts are overdue."""
    wanted = [one for one in candidates if one.wanted]
    unknown = [one for one in wanted if one.verdict == "unknown"]
    before = before if before is not None and before.settled else None
    level, serving, told = _level(rules, wanted, before, late=late)
    single = rules.single and level != "open"
    if single and len(serving) > 1:
        serving = [_single(rules, serving, before)]
    if not isinstance(level, int):
        waits = bool(unknown)
    elif single:
        waits = _first([one for one in wanted if one in unknown or one is serving[0]]) is not serving[0]
    else:
        waits = any(one.tier < level for one in unknown)
    why = _why(rules, level, serving, told)
    return Choice(level, tuple(one.name for one in serving), why, before is not None or not unknown, waits)


def ordered(candidate: Candidate, choice: Choice) -> Verdict:
    """Return the verdict for workers: "up" for a backend that serves, "standby" for one that is up and does not."""
    if candidate.name in choice.serving:
        return "up"
    # A backend that is not wanted gets no new clients in any case: it does not stand by for others.
    return "standby" if candidate.verdict == "up" and candidate.wanted else candidate.verdict


def _level(
    rules: Rules, wanted: Collection[Candidate], before: Choice | None, *, late: bool
) -> tuple[Level, list[Candidate], list[str]]:
    """Return the level, the backends that may serve, and in words why each lower tier does not serve."""
    told: list[str] = []
    for tier in sorted({one.tier for one in wanted}):
        members = [one for one in wanted if one.tier == tier]
        up = [one for one in members if one.verdict == "up"]
        if len(up) >= _needed(rules, tier, len(members), before) and not _stays(rules, tier, wanted, before):
            return tier, up, told
        told.append(f"{len(up)} of {len(members)} up in tier {tier}")
    fit = [one for one in wanted if one.verdict in {"up", "reserve"}]
    if fit:
        return "all", fit, told
    unfit = [one for one in wanted if late or one.verdict == "down"]
    if rules.fail_open and unfit and (before is not None or len(unfit) == len(wanted)):
        return "open", unfit, told
    return "none", [], told


def _needed(rules: Rules, tier: int, size: int, before: Choice | None) -> int:
    """Return how many must be up in a tier of `size` for it to serve."""
    if before is None or before.rank <= tier:
        return rules.quorum
    return max(rules.quorum, min(rules.quorum + rules.hysteresis, size))


def _stays(rules: Rules, tier: int, wanted: Collection[Candidate], before: Choice | None) -> bool:
    """Returns True if a higher tier goes on serving although this tier is back."""
    if rules.failback or before is None or not isinstance(before.level, int) or before.level <= tier:
        return False
    return sum(one.tier == before.level and one.verdict == "up" for one in wanted) >= rules.quorum


def _why(rules: Rules, level: Level, serving: Sequence[Candidate], told: Sequence[str]) -> str:
    count = ", ".join(told) or "no backend is ready"
    if level == "none":
        return f"no backend is fit ({count}): no backend serves"
    if level == "open":
        return f"no backend is fit ({count}): fail-open, all {len(serving)} serve"
    which = serving[0].name if rules.single else f"all {len(serving)} that are fit"
    if level == "all":
        return f"no tier meets the quorum of {rules.quorum} ({count}): {which} serve{'s' * rules.single}"
    which = f"{which} of tier {level}" if rules.single else f"tier {level}"
    return f"{which} serves" + (f": {count}" if told else "")


def _single(rules: Rules, fit: Sequence[Candidate], before: Choice | None) -> Candidate:
    """Return the backend that serves a failover service: one that is up before one in reserve."""
    up = [one for one in fit if one.verdict == "up"] or list(fit)
    if not rules.failback and before is not None:
        held = next((one for one in up if one.name in before.serving), None)
        if held is not None:
            return held
    return _first(up)


def _first(among: Sequence[Candidate]) -> Candidate:
    return min(among, key=lambda one: (one.tier, -one.weight))  # of equals the first in the file
