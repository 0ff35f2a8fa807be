"""round-robin."""

from collections import Counter
from itertools import islice
from math import gcd
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.balance import round_robin
from proxy.balance.round_robin import Cycle, Deadlines, RoundRobin, smooth_cycle

WEIGHTS = st.lists(st.integers(1, 40), min_size=2, max_size=12)


@pytest.mark.parametrize(
    ("weights", "order"), [((5, 1, 1), "aabacaa"), ((1, 1), "ab"), ((4, 2, 1), "abacaba"), ((3, 1), "aaba")]
)
def test_the_order_is_that_of_nginx(weights, order):
    """The cycle is the one that nginx's algorithm gives, as its commit message shows for 5, 1, 1."""
    assert "".join("abc"[place] for place in smooth_cycle(weights)) == order


@given(WEIGHTS, st.integers())
def test_shares_are_exact_over_a_cycle(make, weights, seed):
    """Over the sum of the reduced weights each backend gets exactly its weight, from whatever place the turns start."""
    backends = make(weights)
    selector = RoundRobin(backends, Random(seed))
    divisor = gcd(*weights)
    counts = Counter(selector.pick() for _ in range(sum(weights) // divisor))
    assert [counts[backend] * divisor for backend in backends] == weights


@given(WEIGHTS, st.floats(0, 1, exclude_max=True), st.integers(0, 100))
def test_deadlines_give_exact_shares_too(make, weights, phase, skipped):
    """The heap gives each backend exactly its weight over any window of the sum of the weights."""
    backends = make(weights)
    turns = Deadlines(backends, weights, phase)
    list(islice(turns, skipped))
    counts = Counter(islice(turns, sum(weights)))
    assert [counts[backend] for backend in backends] == weights


@given(WEIGHTS, st.integers())
def test_turns_are_spread(make, weights, seed):
    """At no time is a backend further from its share than the number of backends."""
    backends = make(weights)
    total, bound = sum(weights), len(backends) * sum(weights)
    for turns in (*round_robin.turns(backends, Random(seed)), Deadlines(backends, weights, 0.0)):
        places = {backend: place for place, backend in enumerate(backends)}
        ahead = [0] * len(backends)  # in parts of a turn, as many as the sum of the weights
        for _ in range(1, 2 * total):
            for place, weight in enumerate(weights):
                ahead[place] -= weight
            ahead[places[next(turns)]] += total
            assert -bound < min(ahead)
            assert max(ahead) < bound


def test_great_weights_are_not_laid_out(make):
    """Where the cycle would be long, the shares are exact over it all the same."""
    backends = make([1, 99_991])
    selector = RoundRobin(backends, Random(1))
    assert not any(isinstance(turns, Cycle) for turns in round_robin.turns(backends, Random(1)))
    counts = Counter(selector.pick() for _ in range(99_992))
    assert counts == {backends[0]: 1, backends[1]: 99_991}


def test_many_backends_are_laid_out(make):
    """A thousand backends of usual weights have a cycle, so that a turn costs the same as among two."""
    backends = make([1, 2, 3, 4] * 250)
    assert all(isinstance(turns, Cycle) for turns in round_robin.turns(backends, Random(1)))
    counts = Counter(islice(round_robin.turns(backends, Random(1))[0], 2500))
    assert [counts[backend] for backend in backends] == [1, 2, 3, 4] * 250


def test_deadlines_compare_few(make):
    """A turn among 1,000 backends of great weights takes at most 20 comparisons: 4 for each of five levels."""
    turns = Deadlines(make([60_000 + place for place in range(1000)]), [60_000 + place for place in range(1000)], 0.3)
    before = turns.ranking.compared
    list(islice(turns, 10_000))
    assert turns.ranking.compared - before <= 20 * 10_000


def test_deadlines_begin_anew(make, monkeypatch):
    """When the deadlines have become great they begin anew in the same order, and shares stay exact."""
    backends = make([3, 5, 7])
    turns = Deadlines(backends, [3, 5, 7], 0.2)
    expected = list(islice(turns, 300))
    monkeypatch.setattr(round_robin, "MOST_CYCLES", 4)
    again = Deadlines(backends, [3, 5, 7], 0.2)
    assert list(islice(again, 300)) == expected
    assert max(again.ranking.amount(place) for place in range(3)) <= 2 * 5 * 7


def test_two_workers_do_not_start_in_step(make):
    """The random source chooses the first backend."""
    backends = make([1] * 8)
    assert len({RoundRobin(backends, Random(seed)).pick() for seed in range(40)}) == 8


def test_retries_take_nobodys_turn(make):
    """Of two backends one of which fails, only every other new query meets the failing one."""
    failing, healthy = make([1, 1])
    selector = RoundRobin((failing, healthy), Random(1))
    first = []
    for _ in range(100):
        first.append(selector.pick())
        if first[-1] is failing:
            assert selector.pick(0, (failing,)) is healthy
    assert first.count(failing) == 50


def test_retries_follow_the_weights(make):
    """What fails at one backend goes to the others by their weights."""
    backends = make([4, 2, 1])
    selector = RoundRobin(backends, Random(1))
    counts = Counter(selector.pick(0, backends[:1]) for _ in range(300))
    assert counts == {backends[1]: 200, backends[2]: 100}


def test_a_retry_past_great_weights_ends(make):
    """A retry finds a light backend behind heavy ones that were tried, and None when all were."""
    backends = make([10_000, 10_000, 1])
    selector = RoundRobin(backends, Random(1))
    assert all(selector.pick(0, backends[:2]) is backends[2] for _ in range(100))
    assert selector.pick(0, backends) is None
