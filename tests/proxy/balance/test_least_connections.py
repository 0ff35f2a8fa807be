"""least-connections, by scanning; and across workers, by scanning and by heap."""

from collections import Counter, deque
from fractions import Fraction
from math import gcd
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

WEIGHTS = st.lists(st.integers(1, 40), min_size=2, max_size=32)

EVEN = st.builds(lambda weight, count: [weight] * count, st.integers(1, 3), st.integers(2, 32))


def load(backend):
    return Fraction(backend.active + backend.elsewhere, backend.weight)


def shares(selector, picks):
    """Return how many of this number of picks, none of them held, each backend gets."""
    counts = Counter(selector.pick() for _ in range(picks))
    return [counts[backend] for backend in selector.backends]


@given(st.lists(st.integers(1, 9), min_size=2, max_size=32) | EVEN, ACTS, st.integers())
def test_every_pick_is_the_models(make, weights, acts, seed):
    """Through any sequence of acts a pick is of the least loaded, and of equal weights the one whose turn it is.

    That is the one next after the last pick, going round; of two the one that did not get the last tie. Retries, in
    between, take part in none of this.
    """
    even = len(set(weights)) == 1
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
            tried = {backend for backend in backends if (number >> backend.index) & 1} or {backends[-1]}
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
            if even and last is not None and (len(backends) > 2 or len(ties) == 2):
                assert picked is min(ties, key=lambda backend: (backend.index - last - 1) % len(backends))
            if len(backends) > 2 or len(ties) == 2:
                last = picked.index
            picked.active += 1
            held.append(picked)


@given(WEIGHTS | EVEN, st.integers(0, 50), st.integers())
def test_idle_shares_are_exact_over_a_cycle(make, weights, skipped, seed):
    """Picks one at a time: over the sum of the reduced weights each gets exactly its weight, from any place on."""
    selector = least_connections.build(make(weights), Random(seed))
    shares(selector, skipped)
    divisor = gcd(*weights)
    assert [count * divisor for count in shares(selector, sum(weights) // divisor)] == weights


@pytest.mark.parametrize("weights", [[65_535, 65_533], [65_535, 7, 4], [2**16 - 1 - place for place in range(8)]])
def test_great_weights_are_exact_too(make, weights):
    """Weights without a small common multiple are heeded to the last pick of a cycle, and spread over all of it."""
    selector = least_connections.build(make(weights), Random(1))
    some = sum(weights) // 8
    for count, weight in zip(shares(selector, some), weights, strict=True):
        assert abs(count - weight / 8) < len(weights)
    rest = shares(selector, sum(weights) - some)
    assert [count + more for count, more in zip(shares(selector, some), rest, strict=True)] == weights


@given(st.integers(1, 9), st.integers(1, 9), st.lists(st.integers(0, 4), max_size=80), st.integers())
def test_ties_of_a_pair_follow_the_weights(make, one_weight, two_weight, acts, seed):
    """Of successive ties, idle or loaded, each gets exactly its weight; picks that are none and retries do not count."""
    one, two = make([one_weight, two_weight])
    selector = least_connections.build((one, two), Random(seed))
    divisor = gcd(one_weight, two_weight)
    cycle = (one_weight + two_weight) // divisor
    ties = []
    for level in acts:
        one.active, two.elsewhere = level * one_weight, level * two_weight
        ties.append(selector.pick())
        one.active += level == 3
        two.active = int(level == 4)
        if level > 2:
            assert selector.pick() is (two if level == 3 else one)
        assert selector.pick(0, (one,)) is two
        two.active = 0
    for start in range(len(ties) - cycle + 1):
        assert ties[start : start + cycle].count(one) == one_weight // divisor


@pytest.mark.parametrize("weights", [[20, *[1] * 20], [40, *[1] * 40]])
def test_idle_turns_are_spread(make, weights):
    """A heavy backend gets its half of the first half of a cycle, give or take a quarter, not one end of it all."""
    assert shares(least_connections.build(make(weights), Random(1)), weights[0])[0] == pytest.approx(
        weights[0] / 2, rel=0.5
    )


@given(
    st.lists(st.integers(1, 9), min_size=3, max_size=12),
    st.lists(st.tuples(st.integers(0, 2**12 - 2), st.integers(0, 200)), max_size=4),
    st.integers(),
)
def test_who_was_busy_has_no_turns_in_arrears(make, weights, past, seed):
    """After any load, no backend gets more than one pick above its share in the first idle cycle, and none in the next."""
    backends = make(weights)
    selector = least_connections.build(backends, Random(seed))
    for busy, picks in [*past, (0, 0)]:
        for backend in backends:
            backend.active = (busy >> backend.index) & 1
        shares(selector, picks)
    divisor = gcd(*weights)
    cycle = sum(weights) // divisor
    for count, weight in zip(shares(selector, cycle), weights, strict=True):
        assert count <= weight // divisor + 1
    assert [count * divisor for count in shares(selector, cycle)] == weights


@pytest.mark.parametrize("weights", [[2, 1], [5, 3, 2], [1, 3] * 20])
def test_sparse_traffic_follows_the_weights(make, weights):
    """Queries of which one in 50 meets another one still open are shared by weight, within a twentieth."""
    worker = Worker(make, weights, 1)
    random = Random(2)
    counts = Counter()
    now = 0.0
    for _ in range(20_000):
        now += random.expovariate(1 / 50)
        worker.work(now, arrivals=1, lifetime=1)
        counts[worker.held[-1][1]] += 1
    for backend in worker.backends:
        assert counts[backend] == pytest.approx(20_000 * backend.weight / sum(weights), rel=0.05)


def test_two_workers_do_not_start_in_step(make):
    """The random source chooses the first backend, whatever the weights."""
    for weights in ([1, 1], [2, 1], [1] * 5, [5, 4, 3], [2, 1, 1], [1] * 40, [1, 2] * 20):
        backends = make(weights)
        assert len({least_connections.build(backends, Random(seed)).pick() for seed in range(20)}) > 1


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


@pytest.mark.parametrize("weights", [[1, 1], [2, 1], [1] * 3, [3, 2, 1], [6, 2, 2, 1, 1], [20, *[1] * 35]])
def test_a_retry_takes_nobodys_turn(make, weights):
    """Where an idle backend fails, no more than its share of the new queries meets it, for all the retries."""
    backends = make(weights)
    selector = least_connections.build(backends, Random(1))
    met = 0
    for _ in range(10 * sum(weights)):
        if selector.pick() is backends[0]:
            met += 1
            assert selector.pick(0, backends[:1]) in backends[1:]
    assert met == pytest.approx(10 * weights[0], abs=1)


@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [9, 1, 1, 1], [9, 3, 2, 1]])
def test_retries_take_turns_by_weight(make, weights):
    """What fails at one idle backend goes to the others by their weights."""
    backends = make(weights)
    selector = least_connections.build(backends, Random(1))
    counts = Counter(selector.pick(0, backends[:1]) for _ in range(10 * sum(weights[1:])))
    assert counts == {backend: 10 * backend.weight for backend in backends[1:]}


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
    """A worker with its own backends, which simulates one millisecond at a time and sees the other worker's loads."""

    def __init__(self, make, weights, seed):
        self.backends = make(weights)
        self.selector = least_connections.build(self.backends, Random(seed))
        self.held = deque()

    def work(self, now, arrivals, lifetime):
        """End the connections that are due, and pick for the new ones."""
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
    """Two busy workers that see each other's picks late still share by weight, within a tenth."""
    workers = [Worker(make, weights, 1), Worker(make, weights, 2)]
    for now in range(1000):
        if now % 20 == 0:
            workers[0].see(workers[1])
            workers[1].see(workers[0])
        for worker in workers:
            worker.work(now, arrivals=10, lifetime=400)
    for mine, theirs in zip(workers[0].backends, workers[1].backends, strict=True):
        assert mine.active + theirs.active == pytest.approx(8000 * mine.weight / sum(weights), rel=0.1)
