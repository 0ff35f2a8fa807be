"""least-connections above the scan limit."""

from collections import Counter, deque
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.balance.least_connections_heap import LATEST, Heap

ACTS = st.lists(
    st.tuples(st.sampled_from(["pick", "pick", "retry", "release", "elsewhere", "refresh"]), st.integers(0, 9999)),
    max_size=150,
)


def load(backend):
    return Fraction(backend.active + backend.elsewhere, backend.weight)


def shares(selector, picks):
    """Return how many of this number of picks, none of them held, each backend gets."""
    counts = Counter(selector.pick() for _ in range(picks))
    return [counts[backend] for backend in selector.backends]


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=33, max_size=45), ACTS, st.integers())
def test_every_pick_is_of_the_least_loaded(make, weights, acts, seed):
    """Through any sequence of acts a pick is one of the least loaded that are left."""
    backends = make(weights)
    selector = Heap(backends, Random(seed))
    held = []
    for act, number in acts:
        backend = backends[number % len(backends)]
        if act == "release" and held:
            backend = held.pop(number % len(held))
            backend.active -= 1
            selector.changed(backend)
        elif act == "elsewhere":
            backend.elsewhere = number % 11
            selector.changed(backend)
        elif act == "refresh":
            for place, other in enumerate(backends):
                other.elsewhere = number * place % 7
            selector.refreshed()
        elif act in ("pick", "retry"):
            tried = [backend, backends[number % 7]] if act == "retry" else []
            left = [other for other in backends if other not in tried]
            picked = selector.pick(0, tried)
            assert picked in left
            assert load(picked) == min(map(load, left))
            picked.active += 1
            if number % 2:  # an increase may be told of or not
                selector.changed(picked)
            held.append(picked)


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=33, max_size=45), st.integers(0, 50), st.integers())
def test_idle_shares_follow_the_weights(make, weights, skipped, seed):
    """Picks one at a time: over the sum of the weights each gets its weight, or one more or less, from any place on."""
    selector = Heap(make(weights), Random(seed))
    shares(selector, skipped)
    for count, weight in zip(shares(selector, sum(weights)), weights, strict=True):
        assert abs(count - weight) <= 1


@pytest.mark.parametrize(
    "weights", [[65_535, *[1] * 40], [40_000, 30_000, *[1000] * 40], [7, 11, 13, 17] * 10, [1, 2, 3] * 100]
)
def test_idle_shares_hold_in_the_long_run(make, weights):
    """After 100,000 picks one at a time each has its share, give or take one, and its part of one pick a backend."""
    selector = Heap(make(weights), Random(1))
    for count, weight in zip(shares(selector, 100_000), weights, strict=True):
        assert abs(count - 100_000 * weight / sum(weights)) <= 1 + len(weights) * weight / sum(weights)


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=33, max_size=40),
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 600)), max_size=3),
    st.integers(),
)
def test_who_was_busy_has_no_turns_in_arrears(make, weights, past, seed):
    """After any load, no backend gets more than one pick above its share in the first idle cycle; then all take turns."""
    backends = make(weights)
    selector = Heap(backends, Random(seed))
    for busy, picks in [*past, (0, 0)]:
        for backend in backends:
            backend.active = (busy >> backend.index) & 1
        selector.refreshed()
        shares(selector, picks)
    for count, weight in zip(shares(selector, sum(weights)), weights, strict=True):
        assert count <= weight + 1
    for count, weight in zip(shares(selector, sum(weights)), weights, strict=True):
        assert abs(count - weight) <= 1


def test_a_lower_load_is_heeded_at_once(make):
    """Of backends that all have 2 open, the one that closes one gets the next pick, wherever it is."""
    for place in range(40):
        backends = make([1] * 40)
        for backend in backends:
            backend.active = 2
        selector = Heap(backends, Random(1))
        backends[place].active = 1
        selector.changed(backends[place])
        assert selector.pick() is backends[place]


def test_changes_leave_nothing_behind(make):
    """A million ups and downs of loads leave one entry a backend."""
    backends = make([1, 2] * 20)
    selector = Heap(backends, Random(1))
    random = Random(2)
    for _ in range(20_000):
        picked = selector.pick()
        picked.active += random.randrange(5)
        selector.changed(picked)
        other = backends[random.randrange(40)]
        other.active = max(0, other.active - random.randrange(5))
        selector.changed(other)
    assert selector.ranking.count == 40


@pytest.mark.parametrize("seed", range(3))
def test_the_work_hardly_grows(make, seed):
    """A pick, its change and an end compare less than three times as many entries among 1,000 backends as among 33."""

    def work(count):
        """Return the comparisons for each connection, with two open on each backend."""
        backends = make([1, 2, 3, 4] * (count // 4) + [1] * (count % 4))
        selector = Heap(backends, Random(seed))
        held = deque()
        for step in range(6 * count):
            if step == 2 * count:
                before = selector.ranking.compared
            picked = selector.pick()
            picked.active += 1
            selector.changed(picked)
            held.append(picked)
            if step >= 2 * count:
                over = held.popleft()
                over.active -= 1
                selector.changed(over)
        return (selector.ranking.compared - before) / (4 * count)

    assert work(1000) < 3 * work(33)
    assert work(1000) < 50


def test_turns_begin_anew(make):
    """When time has become great, turns are counted from 0 again, and shares stay exact."""
    weights = [1, 2, 3] * 12
    selector = Heap(make(weights), Random(1))
    selector.ranking.rewind(-LATEST)  # all turns are as late as can be
    for count, weight in zip(shares(selector, 10 * sum(weights)), weights, strict=True):
        assert abs(count - 10 * weight) <= 1
    assert all(selector.ranking.turn(place) < LATEST // 2 for place in range(len(weights)))


def test_a_stranger_is_ignored(make):
    """A change of a backend that is no member, such as one that went down, changes nothing."""
    backends = make([1] * 50)
    members = backends[:35]
    selector = Heap(members, Random(1))
    for stranger in (backends[49], make([1] * 3)[2]):
        stranger.active = -5
        selector.changed(stranger)
    assert selector.ranking.count == 35
    assert {selector.pick() for _ in range(70)} == set(members)


def test_all_tried_leaves_nobody_and_harms_nothing(make):
    """When all were tried the pick is None, and the next one finds everybody in place."""
    backends = make([1] * 40)
    selector = Heap(backends, Random(1))
    assert selector.pick(0, backends) is None
    assert {selector.pick() for _ in range(40)} == set(backends)


def test_idle_equals_take_turns(make):
    """Backends that are always idle get equal numbers, in a fixed order that is drawn at random."""
    backends = make([1] * 40)
    orders = []
    for seed in range(5):
        selector = Heap(backends, Random(seed))
        picks = [selector.pick() for _ in range(120)]
        assert picks[:40] * 3 == picks
        orders.append(picks[0])
    assert len(set(orders)) > 1


def test_weights_are_those_of_the_time_it_was_built(make):
    """A weight that becomes 0 before the selector is replaced breaks nothing."""
    backends = make([2] * 40)
    selector = Heap(backends, Random(1))
    backends[0].weight = 0
    backends[0].active = 1
    selector.changed(backends[0])
    selector.refreshed()
    assert selector.pick() is not None
