"""The laws of verdicts, proven on sequences of results."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health.state import Health, Opinion, Outcome, combine, judge, unjudged

PASS = Outcome(True, "connected", 0.001)
RESERVE = Outcome(True, "replica lags 40 s", 0.001, reserve=True)
FAIL = Outcome(False, "connection refused", 0.001)

RESULTS = st.lists(st.sampled_from([PASS, FAIL]), max_size=60)
COUNTS = st.integers(1, 5)
STATES = st.lists(st.sampled_from(["unknown", "up", "down", "reserve"]), max_size=6)


def states(health: Health, results: list[Outcome]) -> list[str]:
    told = []
    for now, result in enumerate(results):
        health.observe(result, float(now))
        told.append(health.state)
    return told


def test_starts_unknown() -> None:
    """H1: before the first result a backend is unknown, not up."""
    assert Health(3, 2).state == "unknown"


def test_first_pass_is_up_at_once() -> None:
    """H1, H13: the first pass needs no `rise`, and carries its reason."""
    change = Health(3, 5).observe(PASS, 7.0)
    assert (change.previous, change.state, change.reason, change.since) == ("unknown", "up", "connected", 7.0)


def test_first_failure_is_down_at_once() -> None:
    """H1, H13: the first failure turns unknown into down with its reason, for no traffic is protected by waiting."""
    change = Health(3, 2).observe(FAIL, 0.0)
    assert (change.previous, change.state, change.reason) == ("unknown", "down", "connection refused")


def test_first_pass_after_failures_is_up_at_once() -> None:
    """H1: a backend that boots after us is up with its first pass ever, and needs `rise` after that."""
    assert states(Health(2, 2), [FAIL, FAIL, PASS, FAIL, FAIL, PASS, PASS]) == [
        *["down", "down", "up", "up", "down", "down", "up"]
    ]


def test_falls_after_consecutive_failures_only() -> None:
    """H2: a pass between failures resets the count."""
    assert states(Health(3, 2), [PASS, FAIL, FAIL, PASS, FAIL, FAIL, FAIL]) == ["up"] * 6 + ["down"]


def test_rises_after_consecutive_passes_only() -> None:
    """H2: a failure between passes resets the count."""
    health = Health(1, 3, "down")
    health.observe(PASS, 0.0)  # the first pass ever
    assert states(health, [FAIL, PASS, PASS, FAIL, PASS, PASS, PASS]) == ["down"] * 6 + ["up"]


def test_reason_counts() -> None:
    """H13: the reason of a flip says how many results in a row decided it."""
    health = Health(2, 2)
    states(health, [PASS, FAIL])
    assert health.observe(FAIL, 2.0).reason == "connection refused (2 failures in a row)"


@given(RESULTS, COUNTS, COUNTS)
def test_flips_on_consecutive_results_only(results: list[Outcome], fall: int, rise: int) -> None:
    """H2: up turns down exactly when the last `fall` results failed, down turns up exactly when the last `rise` passed."""
    health = Health(fall, rise)
    passed = False
    state = "unknown"
    for index, result in enumerate(results):
        seen = [entry.ok for entry in results[: index + 1]]
        if state == "unknown" or (not passed and result.ok):
            state = "up" if result.ok else "down"
        elif state == "up" and len(seen) >= fall and not any(seen[-fall:]):
            state = "down"
        elif state == "down" and len(seen) >= rise and all(seen[-rise:]):
            state = "up"
        passed = passed or result.ok
        change = health.observe(result, float(index))
        assert health.state == state
        assert change is None or change.state == state != change.previous


@given(st.lists(st.sampled_from([PASS, RESERVE, FAIL]), max_size=60), COUNTS, COUNTS)
def test_every_flip_has_its_results(results: list[Outcome], fall: int, rise: int) -> None:
    """H2: with reserve as well, each flip of a proven backend stands on `fall` or `rise` results that agree with it."""
    rank = {"down": 0, "reserve": 1, "up": 2}
    ranks = [2 if entry is PASS else 1 if entry is RESERVE else 0 for entry in results]
    health = Health(fall, rise, "up")
    for index, result in enumerate(results):
        change = health.observe(result, float(index))
        if not change:
            continue
        new = rank[change.state]
        if new < rank[change.previous]:
            assert max(ranks[index - fall + 1 : index + 1]) <= new
            assert index + 1 >= fall
        else:
            assert min(ranks[index - rise + 1 : index + 1]) >= new
            assert index + 1 >= rise


def test_reserve_and_failures_count_together() -> None:
    """Three results in a row that were not fit for up, one of them fit for reserve, make an up backend reserve."""
    assert states(Health(3, 2, "up"), [FAIL, RESERVE, FAIL]) == ["up", "up", "reserve"]
    assert states(Health(3, 2, "up"), [RESERVE, FAIL, FAIL, FAIL]) == ["up", "up", "reserve", "down"]


def test_reserve_recovers_both_ways() -> None:
    """H8: a backend in reserve goes up after `rise` passes and down after `fall` failures."""
    assert states(Health(2, 2), [RESERVE, PASS, PASS]) == ["reserve", "reserve", "up"]
    assert states(Health(2, 2), [RESERVE, FAIL, FAIL, RESERVE, RESERVE]) == [
        *["reserve", "reserve", "down", "down", "reserve"]
    ]


def test_inherited_verdict_needs_full_count() -> None:
    """H2: a probe that starts from a verdict of up needs `fall` failures like any other."""
    assert states(Health(3, 2, "up"), [FAIL, FAIL, FAIL]) == ["up", "up", "down"]


def test_phases() -> None:
    """H6: steady while agreeing, in transition while disagreeing or unconfirmed, down once confirmed."""
    health = Health(2, 2)
    phases = [health.phase]
    for result in (FAIL, FAIL, PASS, FAIL, PASS, FAIL, FAIL, PASS, PASS):
        health.observe(result, 0.0)
        phases.append(health.phase)
    assert phases == [
        *["steady", "transition", "down", "steady", "transition", "steady", "transition", "down"],
        *["transition", "steady"],
    ]


@pytest.mark.parametrize(
    ("found", "require", "state"),
    [
        (["up", "up"], "all", "up"),
        (["up", "down"], "all", "down"),
        (["up", "down"], "any", "up"),
        (["down", "down"], "any", "down"),
        (["up", "unknown"], "all", "unknown"),
        (["down", "unknown"], "all", "down"),
        (["down", "unknown"], "any", "unknown"),
        (["up", "unknown"], "any", "up"),
        (["up", "reserve"], "all", "reserve"),
        (["down", "reserve"], "any", "reserve"),
        (["up", "up", "down"], 2, "up"),
        (["up", "down", "down"], 2, "down"),
        (["up", "reserve", "down"], 2, "reserve"),
        (["up", "down"], 9, "down"),
        (["up", "up"], 9, "up"),
        ([], "all", "up"),
        ([], "any", "up"),
    ],
)
def test_combine(found: list[str], require: object, state: str) -> None:
    """H15: `all`, `any` and K of the probes decide the backend's verdict."""
    assert combine(found, require) == state


@given(STATES, st.integers(1, 6))
def test_all_and_any_are_counts(found: list[str], needed: int) -> None:
    """H15: `all` is N of N and `any` 1 of N; asking for more never makes a backend fitter."""
    order = ["down", "unknown", "reserve", "up"]
    assert combine(found, "all") == combine(found, max(1, len(found)))
    assert combine(found, "any") == combine(found, 1)
    assert order.index(combine(found, needed + 1)) <= order.index(combine(found, needed))


def test_report_only_decides_nothing() -> None:
    """H15: a report-only probe that fails leaves the verdict to the others."""
    down = Opinion("tcp 636", "down", "connection refused", report_only=True)
    assert judge([Opinion("ldap 389", "up", "bound"), down], "all") == ("up", "bound")
    assert judge([down], "all") == ("up", "no probe decides")


def test_reason_names_the_probes_that_speak_for_the_verdict() -> None:
    """H13, H15: with several probes the reason names those that made the verdict."""
    opinions = [Opinion("tcp 389", "up", "connected"), Opinion("tcp 636", "down", "connection refused")]
    assert judge(opinions, "all") == ("down", "tcp 636: connection refused")
    assert judge(opinions, "any") == ("up", "tcp 389: connected")


FULL = Outcome(True, "too many connections", 0.001, reserve=True, full=True)


def test_full_is_kept_in_reserve() -> None:
    """H8: an up backend that is full goes to reserve after `fall` results, and comes back with passes."""
    health = Health(3, 2)
    health.observe(PASS, 1.0)
    for _ in range(2):
        assert health.observe(FULL, 2.0) is None
    assert health.observe(FULL, 3.0).state == "reserve"
    assert health.phase == "steady"
    health.observe(PASS, 4.0)
    assert health.observe(PASS, 5.0).state == "up"


def test_full_from_the_start() -> None:
    """H8: a backend that is full at its first probe is in reserve, and up at its first pass."""
    health = Health(3, 2)
    assert health.observe(FULL, 1.0).state == "reserve"
    assert health.observe(PASS, 2.0).state == "up"


def test_full_lifts_nobody() -> None:
    """H8: a backend that is down stays so while it is full, at the pace of one that is down."""
    health = Health(1, 1)
    health.observe(PASS, 1.0)
    health.observe(FAIL, 2.0)
    for second in range(10):
        assert health.observe(FULL, 3.0 + second) is None
    assert (health.state, health.phase) == ("down", "down")
    assert health.observe(PASS, 20.0).state == "up"


def opinion(state: str, hindrance: str = "", *, report_only: bool = False) -> Opinion:
    return Opinion("tcp 1", state, "x", report_only, hindrance)


@pytest.mark.parametrize(
    ("opinions", "require", "why"),
    [
        ([opinion("unknown", "refused")], "all", "refused"),
        ([opinion("unknown")], "all", ""),
        ([opinion("up", "refused")], "all", ""),
        ([opinion("down", "refused")], "all", ""),
        ([opinion("unknown", "refused"), opinion("up")], "all", "tcp 1: refused"),
        ([opinion("unknown", "refused"), opinion("unknown", "limit")], "all", "tcp 1: refused; tcp 1: limit"),
        ([opinion("unknown", "refused"), opinion("unknown")], "all", ""),
        ([opinion("unknown", "refused"), opinion("unknown")], "any", "tcp 1: refused"),
        ([opinion("unknown", "refused"), opinion("down")], "all", ""),
        ([opinion("unknown", "refused"), opinion("down")], "any", "tcp 1: refused"),
        ([opinion("unknown", "refused"), opinion("up")], "any", ""),
        ([opinion("unknown", "refused"), opinion("reserve")], "all", "tcp 1: refused"),
        ([opinion("unknown", "refused", report_only=True), opinion("unknown")], "all", ""),
    ],
)
def test_unjudged(opinions: list[Opinion], require: str, why: str) -> None:
    """H15: a backend is unjudged where it would be fit if the probes that our own side hinders had passed."""
    assert unjudged(opinions, require) == why
