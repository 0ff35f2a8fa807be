"""random-two."""

from collections import Counter
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.balance.random_two import RandomTwo, alias_table


@given(st.lists(st.integers(1, 65_535), min_size=1, max_size=50))
def test_the_alias_table_draws_by_weight(weights):
    """The probabilities of drawing a place, directly and as an alias, add up to its share of the weights."""
    bounds, aliases = alias_table(weights)
    shares = [0.0] * len(weights)
    for place, (bound, alias) in enumerate(zip(bounds, aliases, strict=True)):
        assert 0 <= bound <= 1
        shares[place] += bound
        shares[alias] += 1 - bound
    for share, weight in zip(shares, weights, strict=True):
        assert share / len(weights) == pytest.approx(Fraction(weight, sum(weights)))


@pytest.mark.parametrize("weights", [[1, 1], [3, 1], [1, 2, 3, 4], [100, 1, 1]])
def test_idle_backends_share_by_weight(make, weights):
    """Where nothing stays active the shares are those of the weights, within four standard deviations."""
    backends = make(weights)
    selector = RandomTwo(backends, Random(1))
    picks = 20_000
    counts = Counter(selector.pick() for _ in range(picks))
    for backend, weight in zip(backends, weights, strict=True):
        share = weight / sum(weights)
        assert abs(counts[backend] - picks * share) < 4 * (picks * share * (1 - share)) ** 0.5


@pytest.mark.parametrize("weights", [[1] * 10, [5, 1, 1, 3], [100, *[1] * 9]])
def test_loads_stay_near_the_weights(make, weights):
    """Filled up to 50 for each unit of weight, no backend is more than a tenth, plus 3, from its share."""
    backends = make(weights)
    selector = RandomTwo(backends, Random(1))
    for _ in range(50 * sum(weights)):
        selector.pick().active += 1
    for backend in backends:
        assert abs(backend.active - 50 * backend.weight) <= 5 * backend.weight + 3


@given(st.integers(0, 2**32))
def test_two_even_backends_are_always_compared(make, seed):
    """Of two backends of equal weight both are drawn, so the less loaded one is picked, including the load elsewhere."""
    one, two = make([1, 1])
    one.active, two.elsewhere = 4, 5
    assert RandomTwo((one, two), Random(seed)).pick() is one
    two.elsewhere = 3
    assert RandomTwo((one, two), Random(seed)).pick() is two


def test_the_same_source_gives_the_same_picks(make):
    """Two selectors with equal random sources pick alike."""
    backends = make([1, 2, 3])
    one, two = (RandomTwo(backends, Random(7)) for _ in range(2))
    assert [one.pick() for _ in range(50)] == [two.pick() for _ in range(50)]


def test_a_retry_finds_a_light_backend(make):
    """A backend that is hardly ever drawn is found when all others were tried, and then None."""
    backends = make([65_535, 65_535, 1])
    selector = RandomTwo(backends, Random(1))
    assert all(selector.pick(0, backends[:2]) is backends[2] for _ in range(50))
    assert selector.pick(0, backends) is None
