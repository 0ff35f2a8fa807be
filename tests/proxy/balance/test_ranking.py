"""The indexed heap behind schedulers of many backends."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.balance.ranking import Ranking

GREATEST = 65_535
ACTS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "write", "rewind"]), st.integers(0, 99), st.integers(0, 1 << 45), st.integers(0, 9)),
    max_size=80,
)  # fmt: skip


def order(place, entry):
    amount, weight, turn = entry
    return Fraction(amount, weight), turn, place


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 2, 3, GREATEST - 1, GREATEST]), min_size=1, max_size=60),
    ACTS,
    st.sets(st.integers(0, 59)),
)
def test_the_first_is_the_models(weights, acts, excluded):
    """Through any acts the first entry is the least by amount for its weight, then turn, then place; compared exactly."""
    ranking = Ranking(weights, [0] * len(weights))
    model = {place: (0, weight, 0) for place, weight in enumerate(weights) if weight}
    members = tuple(range(len(weights)))
    for act, place, amount, turn in acts:
        place %= len(weights)
        if act == "rewind":
            ranking.rewind(0)
            model = {place: (amount, weight, max(turn, 0)) for place, (amount, weight, turn) in model.items()}
        elif place in model:
            if act == "put":
                model[place] = (amount, weights[place], turn)
                ranking.put(place, amount, turn)
            else:
                model[place] = (amount, *model[place][1:])
                ranking.write(place, amount)
                ranking.rank()
        least = min(model, key=lambda one: order(one, model[one]), default=-1)
        assert ranking.first() == least
        left = [place for place in model if place not in excluded]
        assert ranking.first_but(members, excluded) == min(left, key=lambda one: order(one, model[one]), default=-1)
    assert ranking.count == len(model)
    assert all((ranking.amount(one), weights[one], ranking.turn(one)) == model[one] for one in model)


def test_turns_are_made_earlier():
    """What is far in arrears stays so, within bounds, and the order of the others does not change."""
    ranking = Ranking([1, 1, 1], [0, 70, 90])
    ranking.put(0, 0, -70)
    ranking.rewind(50)
    assert [ranking.turn(place) for place in range(3)] == [-50, 20, 40]
    assert ranking.first() == 0


@pytest.mark.parametrize("excluded", [1, 3, 9])
def test_a_search_past_excluded_entries_is_short(excluded):
    """Without the first few of 1,000 entries the next is found by four comparisons for each, or fewer."""
    ranking = Ranking([1] * 1000, list(range(1000)))
    members = tuple(range(1000))
    before = ranking.compared
    assert ranking.first_but(members, set(range(excluded))) == excluded
    assert ranking.compared - before <= 4 * excluded
