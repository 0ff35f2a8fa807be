"""Who of a service's backends serves (H14)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.backends.choice import Candidate, Choice, Rules, choose, ordered

VERDICTS = {"u": "up", "d": "down", "r": "reserve", "?": "unknown"}


def backends(*tiers: str) -> list[Candidate]:
    """Return a backend for each letter of each tier, named by tier and place: "ud" is a0 up and a1 down."""
    return [
        Candidate(f"{'abc'[tier]}{place}", tier, 1, VERDICTS[letter], "ready")
        for tier, letters in enumerate(tiers)
        for place, letter in enumerate(letters)
    ]


def chosen(choice: Choice) -> tuple[object, str]:
    return choice.level, " ".join(choice.serving)


@pytest.mark.parametrize(
    ("tiers", "rules", "level", "serving"),
    [
        (("uu", "uu"), Rules(), 0, "a0 a1"),
        (("du", "uu"), Rules(), 0, "a1"),
        (("dd", "uu"), Rules(), 1, "b0 b1"),
        (("rd", "uu"), Rules(), 1, "b0 b1"),  # a reserve does not count for the quorum
        (("dd", "dd", "u"), Rules(), 2, "c0"),
        (("du", "uu"), Rules(quorum=2), 1, "b0 b1"),
        (("du", "du"), Rules(quorum=2), "all", "a1 b1"),  # no tier meets it: all that are fit
        (("ur", "d"), Rules(quorum=2), "all", "a0 a1"),
        (("rd",), Rules(), "all", "a0"),
        (("uur",), Rules(quorum=2), 0, "a0 a1"),
        (("dd", "d"), Rules(), "none", ""),
        (("dd", "d"), Rules(fail_open=True), "open", "a0 a1 b0"),
        (("d?",), Rules(fail_open=True), "none", ""),  # H1: what may still pass is waited for
        ((), Rules(fail_open=True), "none", ""),
        (("uu",), Rules(single=True), 0, "a0"),
        (("du", "u"), Rules(single=True), 0, "a1"),
        (("dr", "r"), Rules(single=True), "all", "a1"),
        (("uu",), Rules(quorum=5), "all", "a0 a1"),
    ],
)
def test_the_lowest_tier_that_meets_the_quorum(tiers, rules, level, serving):
    """H14: the lowest tier with enough of them up serves; else all that are fit; else everybody or nobody, as configured."""
    assert chosen(choose(rules, backends(*tiers))) == (level, serving)


@pytest.mark.parametrize(
    ("tiers", "rules", "level", "serving"),
    [
        (("d?",), Rules(fail_open=True), "open", "a0 a1"),
        (("??",), Rules(fail_open=True), "open", "a0 a1"),
        (("??",), Rules(), "none", ""),
        (("?r",), Rules(fail_open=True), "all", "a1"),
        (("?u",), Rules(fail_open=True), 0, "a1"),
    ],
)
def test_first_verdicts_that_are_not_waited_for(tiers, rules, level, serving):
    """H14: once first verdicts are waited for no longer, fail-open counts for a backend without one as for one that is down."""
    assert chosen(choose(rules, backends(*tiers), late=True)) == (level, serving)


@pytest.mark.parametrize(("key", "value"), [("admin", "drain"), ("admin", "maint"), ("weight", 0)])
def test_who_is_not_wanted_never_serves(key, value):
    """H14: a drained backend, one in maintenance and one of weight 0 serve nobody, with fail-open neither."""
    first, second = backends("uu")
    first = replace(first, **{key: value})
    assert choose(Rules(), [first, second]).serving == ("a1",)
    down = [replace(one, verdict="down") for one in (first, second)]
    assert choose(Rules(fail_open=True), down).serving == ("a1",)
    assert chosen(choose(Rules(fail_open=True), [first])) == ("none", "")
    assert choose(Rules(), [replace(first, verdict="unknown"), second]).settled  # no verdict of it is waited for


def walk(rules: Rules, *steps: tuple[str, ...]) -> list[tuple[object, str]]:
    """Return what is chosen step by step, each with the memory of the last."""
    found, before = [], None
    for tiers in steps:
        before = choose(rules, backends(*tiers), before)
        found.append(chosen(before))
    return found


def test_fail_open_goes_on_while_one_is_probed_anew():
    """H14: a service that fails open does not close for a backend that comes from maintenance, and waits for it."""
    rules = Rules(fail_open=True)
    before = choose(rules, backends("dd"))
    assert chosen(choose(rules, backends("d?"), before)) == ("open", "a0")
    assert chosen(choose(rules, backends("??"), before)) == ("none", "")


def test_hysteresis_counts_on_the_way_back_only():
    """H14: with a quorum of 2 and 1 more to come back, a tier of 4 is left below 2 and taken again at 3."""
    rules = Rules(quorum=2, hysteresis=1)
    steps = [("uuuu", "u"), ("uudd", "u"), ("uddd", "uu"), ("uudd", "uu"), ("uuud", "uu"), ("uudd", "uu")]
    assert [level for level, _ in walk(rules, *steps)] == [0, 0, 1, 1, 0, 0]


def test_hysteresis_asks_for_no_more_than_there_are():
    """H14: a tier comes back when all of it is up, however much the hysteresis asks for."""
    assert [level for level, _ in walk(Rules(quorum=1, hysteresis=9), ("dd", "u"), ("ud", "u"), ("uu", "u"))] == [
        1,
        1,
        0,
    ]
    assert [level for level, _ in walk(Rules(quorum=2, hysteresis=9), ("ud",), ("uu",))] == ["all", 0]


def test_without_failback_the_backup_goes_on():
    """H14: without failback the higher tier serves on although the lower is back, until it does not meet the quorum."""
    steps = [("u", "uu"), ("d", "uu"), ("u", "uu"), ("u", "ud"), ("u", "dd"), ("u", "uu")]
    assert [level for level, _ in walk(Rules(failback=False), *steps)] == [0, 1, 1, 1, 0, 0]
    assert [level for level, _ in walk(Rules(), *steps)] == [0, 1, 0, 0, 0, 0]


def test_failover_keeps_the_one_that_serves():
    """H14: a failover service without failback stays where it is while that is fit, with failback it returns at once."""
    steps = [("uuu",), ("duu",), ("uuu",), ("udu",), ("uuu",)]
    assert [serving for _, serving in walk(Rules(single=True, failback=False), *steps)] == [
        "a0",
        "a1",
        "a1",
        "a0",
        "a0",
    ]
    assert [serving for _, serving in walk(Rules(single=True), *steps)] == ["a0", "a1", "a0", "a0", "a0"]


def test_a_new_backend_does_not_end_the_memory():
    """H14: a backend that is to be probed anew, as after maintenance, moves nobody who serves without failback."""
    steps = [("uu",), ("du",), ("?u",), ("uu",)]
    assert [serving for _, serving in walk(Rules(single=True, failback=False), *steps)] == ["a0", "a1", "a1", "a1"]


def test_failover_goes_by_weight():
    """H14: the first of a failover service has the highest weight, of equals it is the first in the file."""
    weights = [1, 3, 3]
    candidates = [replace(one, weight=weight) for one, weight in zip(backends("uuu"), weights, strict=True)]
    assert choose(Rules(single=True), candidates).serving == ("a1",)


def test_the_order_of_first_verdicts_decides_nothing():
    """H1, H14: nothing is remembered of the start, when a backup's verdict may come before the first one's."""
    tiers = Rules(failback=False), ("?", "u"), ("u", "u")
    failover = Rules(failback=False, single=True), ("?u",), ("uu",)
    for rules, first, second in (tiers, failover):
        early = choose(rules, backends(*first))
        assert early.waits
        assert not early.settled
        late = choose(rules, backends(*second), early)
        assert (late.serving, late.waits, late.settled) == (("a0",), False, True)


@pytest.mark.parametrize(
    ("tiers", "rules", "waits"),
    [
        (("u?",), Rules(), False),
        (("u", "?"), Rules(), False),
        (("d?", "u"), Rules(), True),
        (("u?",), Rules(quorum=2), True),
        (("?u",), Rules(single=True), True),
        (("u?",), Rules(single=True), False),
        (("d?",), Rules(), True),
        (("dd",), Rules(), False),
    ],
)
def test_what_is_waited_for_at_the_start(tiers, rules, waits):
    """H1: the start waits for the verdict of a backend that would serve instead, and for no other."""
    assert choose(rules, backends(*tiers)).waits == waits


def test_what_workers_act_on():
    """H14: who serves is up for the workers, who is up and does not is on standby; the rest is what it is."""
    candidates = backends("dr", "ur")
    choice = choose(Rules(), candidates)
    assert [ordered(one, choice) for one in candidates] == ["down", "reserve", "up", "reserve"]
    opened = choose(Rules(fail_open=True), backends("d", "d"))
    assert [ordered(one, opened) for one in backends("d", "d")] == ["up", "up"]
    drained = replace(backends("uu")[1], admin="drain")
    assert ordered(drained, choose(Rules(), [backends("uu")[0], drained])) == "up"  # it does not stand by for anybody
    idle = backends("u", "u")
    assert [ordered(one, choose(Rules(), idle)) for one in idle] == ["up", "standby"]
    lagging = backends("r")
    assert ordered(lagging[0], choose(Rules(), lagging)) == "up"


def test_the_reason_is_told():
    """H13, H14: why it is so is said with the numbers of every tier that does not serve."""
    assert choose(Rules(), backends("uu", "u")).why == "tier 0 serves"
    assert choose(Rules(quorum=2), backends("ud", "uu")).why == "tier 1 serves: 1 of 2 up in tier 0"
    assert (
        choose(Rules(quorum=2), backends("ud", "u")).why
        == "no tier meets the quorum of 2 (1 of 2 up in tier 0, 1 of 1 up in tier 1): all 2 that are fit serve"
    )
    assert choose(Rules(), backends("dd")).why == "no backend is fit (0 of 2 up in tier 0): no backend serves"
    assert (
        choose(Rules(fail_open=True), backends("d")).why
        == "no backend is fit (0 of 1 up in tier 0): fail-open, all 1 serve"
    )
    assert choose(Rules(single=True), backends("ud", "u")).why == "a0 of tier 0 serves"
    assert (
        choose(Rules(single=True), backends("dr")).why
        == "no tier meets the quorum of 1 (0 of 2 up in tier 0): a1 serves"
    )
    assert choose(Rules(), []).why == "no backend is fit (no backend is ready): no backend serves"


candidates = st.lists(
    st.builds(
        Candidate, st.none(), st.integers(0, 2), st.integers(0, 3), st.sampled_from([*VERDICTS.values()]),
        st.sampled_from(["ready", "ready", "drain", "maint"]),
    ),
    max_size=6,
).map(lambda made: [replace(one, name=f"b{place}") for place, one in enumerate(made)])  # fmt: skip
rules = st.builds(Rules, st.integers(1, 4), st.integers(0, 3), st.booleans(), st.booleans(), st.booleans())


@given(rules, st.lists(candidates, min_size=1, max_size=4))
def test_somebody_serves_whenever_somebody_is_fit(rules, steps):
    """H14: whatever came before, fit and wanted backends leave nobody unserved, and no one else serves but in fail-open."""
    before = None
    for step in steps:
        before = choose(rules, step, before)
        fit = {one.name for one in step if one.wanted and one.verdict in {"up", "reserve"}}
        serving = set(before.serving)
        assert bool(serving) >= bool(fit)
        assert serving <= {one.name for one in step if one.wanted}
        if before.level == "open":
            assert rules.fail_open
            assert not fit
        else:
            assert serving <= fit
            assert len(serving) <= 1 or not rules.single


@given(rules, candidates, candidates)
def test_a_choice_is_steady(rules, earlier, now):
    """H14: the same verdicts told again change nothing."""
    choice = choose(rules, now, choose(rules, earlier))
    assert choose(rules, now, choice) == choice
