"""least-connections, by scanning; and across workers, by scanning and by heap."""

from collections import Counter, deque
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.balance import least_connections
from proxy.balance.least_connections import EvenPair, EvenScan, Pair, Scan
from proxy.balance.least_connections_heap import Heap

ACTS = st.lists(
    st.tuples(st.sampled_from(["pick", "pick", "retry", "release", "elsewhere"]), st.integers(0, 999)), max_size=80
)

EVEN = st.builds(lambda weight, count: [weight] * count, st.integers(1, 3), st.integers(2, 32))


def load(backend):
    return Fraction(backend.active + backend.elsewhere + 1, backend.weight)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=32) | EVEN, ACTS, st.integers())
def test_every_pick_is_the_models(make, weights, acts, seed):
    """Through any sequence of acts a pick is, of the least loaded, the one next after the last pick, going round.

    Of two it is the one that did not get the last tie. Retries, in between, take part in none of this.
    """
    backends = make(weights)
    selector = least_connections.build(backends, Random(seed))
    held = []
    last = None
    for act, number in acts:
        if act == "release" and held:
            held.pop(number % len(held)).active -= 1
        elif act == "elsewhere":
            backends[number % len(backends)].elsewhere = number % 7
        elif act == "retry":
            tried = {backend for backend in backends if (number >> backend.index) & 1}
            left = [backend for backend in backends if backend not in tried]
            picked = selector.pick(0, tried)
            assert (picked is None) == (not left)
            if picked is not None:
                assert picked in left
                assert load(picked) == min(map(load, left))
        elif act == "pick":
            picked = selector.pick()
            least = min(map(load, backends))
            ties = [backend for backend in backends if load(backend) == least]
            assert picked in ties
            if last is not None and (len(backends) > 2 or len(ties) == 2):
                assert picked is min(ties, key=lambda backend: (backend.index - last - 1) % len(backends))
            if len(backends) > 2 or len(ties) == 2:
                last = picked.index
            picked.active += 1
            held.append(picked)


def test_the_least_of_equal_weights_is_found_wherever_it_is(make):
    """Of loads that fall step by step the last one is picked, not the first that is lower."""
    backends = make([1] * 6)
    for backend, active in zip(backends, (6, 5, 4, 3, 1, 2), strict=True):
        backend.active = active
    selector = least_connections.build(backends, Random(1))
    assert {selector.pick() for _ in range(6)} == {backends[4]}


@pytest.mark.parametrize("weights", [[1] * 2, [3] * 2, [1] * 5, [2] * 32])
def test_idle_equals_take_turns(make, weights):
    """Backends that are always idle get equal numbers, one after the other."""
    backends = make(weights)
    selector = least_connections.build(backends, Random(1))
    picks = [selector.pick() for _ in range(3 * len(backends))]
    assert len(set(picks[: len(backends)])) == len(backends)
    assert picks[: len(backends)] * 3 == picks


def test_ties_among_some_take_turns(make):
    """Where one of three is busy the other two get every second pick each."""
    backends = make([1, 1, 1])
    backends[0].active = 1
    selector = least_connections.build(backends, Random(1))
    assert Counter(selector.pick() for _ in range(100)) == {backends[1]: 50, backends[2]: 50}


@pytest.mark.parametrize("weights", [[1, 1], [3, 1], [5, 3, 2], [1] * 32, [7, *[1] * 39]])
def test_held_connections_follow_the_weights(make, weights):
    """Filled with 10 connections a unit of weight, every backend holds exactly 10 times its weight."""
    backends = make(weights)
    selector = least_connections.build(backends, Random(1))
    for _ in range(10 * sum(weights)):
        selector.pick().active += 1
    assert [backend.active for backend in backends] == [10 * weight for weight in weights]


def test_a_retry_takes_nobodys_turn(make):
    """Of two idle backends one of which fails, only every other new query meets the failing one."""
    failing, healthy = make([1, 1])
    for selector in (EvenPair((failing, healthy), Random(1)), EvenScan((failing, healthy), Random(1))):
        first = []
        for _ in range(100):
            first.append(selector.pick())
            if first[-1] is failing:
                assert selector.pick(0, (failing,)) is healthy
        assert first.count(failing) == 50


@pytest.mark.parametrize("weights", [[1, 1], [2, 1]])
def test_a_pair_heeds_what_was_tried(make, weights):
    """A pair gives the other one after a try, None after two, and is not confused by a stranger."""
    one, two = make(weights)
    stranger = make([1])[0]
    selector = least_connections.build((one, two), Random(1))
    assert selector.pick(0, (one,)) is two
    assert selector.pick(0, (two,)) is one
    assert selector.pick(0, (one, two)) is None
    two.active = 50
    assert selector.pick(0, (stranger,)) is one


@pytest.mark.parametrize(
    ("weights", "kind"),
    [([2, 2], EvenPair), ([2, 1], Pair), ([3] * 32, EvenScan), ([1] * 31 + [2], Scan), ([1] * 33, Heap)],
)
def test_the_number_and_the_weights_choose_the_class(make, weights, kind):
    """Two backends make a pair, up to 32 are scanned, more make a heap."""
    assert type(least_connections.build(make(weights), Random(1))) is kind


class Worker:
    """A worker with its own backends: what it does in one simulated millisecond, and what it sees of the other."""

    def __init__(self, make, weights, seed):
        self.backends = make(weights)
        self.selector = least_connections.build(self.backends, Random(seed))
        self.held = deque()

    def work(self, now, arrivals, lifetime):
        """End what is due and take on the arrivals."""
        while self.held and self.held[0][0] <= now:
            self.note(self.held.popleft()[1], -1)
        for _ in range(arrivals):
            backend = self.selector.pick()
            self.note(backend, 1)
            self.held.append((now + lifetime, backend))

    def note(self, backend, step):
        """Count one more or one less on a backend, as a relay does."""
        backend.active += step
        if self.selector.needs_changes:
            self.selector.changed(backend)

    def see(self, other):
        """Refresh `elsewhere`, as a relay does every 20 ms."""
        for mine, theirs in zip(self.backends, other.backends, strict=True):
            mine.elsewhere = theirs.active
        if self.selector.needs_changes:
            self.selector.refreshed()


@pytest.mark.parametrize("weights", [[1, 1], [3, 1], [1] * 8, [1, 2, 3, 4], [1] * 40, [1, 3] * 20])
def test_two_workers_stay_balanced_through_elsewhere(make, weights):
    """Two workers that see each other's loads every 20 ms make good for one's lopsided start, within a tenth.

    The first one holds 600 old connections on one backend, which the second one learns through `elsewhere` alone.
    """
    one, two = Worker(make, weights, 1), Worker(make, weights, 2)
    for _ in range(600):
        one.note(one.backends[0], 1)
        one.held.append((10_000, one.backends[0]))
    for now in range(1000):
        if now % 20 == 0:
            one.see(two)
            two.see(one)
        two.work(now, arrivals=20, lifetime=400)
    old = one.backends[0].active
    fair = (old + 8000) / sum(weights)
    expected = [fair * weight for weight in weights]
    if expected[0] < old:  # more than its share for all time: it gets nothing, the others share the rest
        expected = [old, *(8000 * weight / (sum(weights) - weights[0]) for weight in weights[1:])]
    for mine, theirs, wanted in zip(one.backends, two.backends, expected, strict=True):
        assert mine.active + theirs.active == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize("weights", [[1, 1], [1, 2, 3, 4], [1, 3] * 20])
def test_two_workers_under_equal_load_stay_balanced(make, weights):
    """Two busy workers that are never told of each other's picks at once still share by weight, within a tenth."""
    workers = [Worker(make, weights, 1), Worker(make, weights, 2)]
    for now in range(1000):
        if now % 20 == 0:
            workers[0].see(workers[1])
            workers[1].see(workers[0])
        for worker in workers:
            worker.work(now, arrivals=10, lifetime=400)
    for mine, theirs in zip(workers[0].backends, workers[1].backends, strict=True):
        assert mine.active + theirs.active == pytest.approx(8000 * mine.weight / sum(weights), rel=0.1)
