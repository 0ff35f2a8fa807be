"""least-latency: estimates, and the picks that follow from them."""

from collections import Counter
from math import exp
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.balance.least_latency import FAILED, TAU, LeastLatency, failed, observe


def serve(selector, times, seconds, rate, *, start=0.0):
    """Run a service: `rate` picks a second, each answered after its backend's time; how many each backend had."""
    counts = Counter()
    pending = []
    for number in range(int(seconds * rate)):
        now = start + number / rate
        for due in [one for one in pending if one[0] <= now]:
            pending.remove(due)
            due[1].active -= 1
            observe(due[1], times[due[1]], due[0])
        picked = selector.pick()
        picked.active += 1
        counts[picked] += 1
        pending.append((now + times[picked], picked))
    for due, backend in sorted(pending, key=lambda one: one[0]):
        backend.active -= 1
        observe(backend, times[backend], due)
    return counts


def test_a_longer_time_counts_at_once_and_shorter_ones_by_and_by(make):
    """The estimate jumps to a peak, and goes down by a factor of e in TAU seconds."""
    (backend,) = make([1])
    observe(backend, 0.010, 100.0)
    observe(backend, 0.500, 100.0)
    assert backend.estimate == 0.5
    observe(backend, 0.010, 100.0 + TAU)
    assert backend.estimate == pytest.approx(0.010 + 0.490 * exp(-1))
    for second in range(100):
        observe(backend, 0.010, 110.0 + second)
    assert backend.estimate == pytest.approx(0.010, rel=0.01)


def test_the_faster_one_gets_nearly_all(make):
    """1 ms beside 20 ms and 100 picks a second: the slow one gets a few of 1,000."""
    fast, slow = make([1, 1])
    counts = serve(LeastLatency((fast, slow), Random(1)), {fast: 0.001, slow: 0.020}, 10, 100)
    assert counts[fast] > 950


@pytest.mark.parametrize("weights", [[1, 1], [3, 1], [1] * 8, [4, 2, 1, 1]])
def test_of_equal_times_loads_follow_the_weights(make, weights):
    """If all backends are equally fast, held picks are shared by weight, within a fifth and 3."""
    backends = make(weights)
    for backend in backends:
        observe(backend, 0.01, 0.0)
    selector = LeastLatency(backends, Random(1))
    for _ in range(100 * sum(weights)):
        selector.pick().active += 1
    for backend in backends:
        assert abs(backend.active - 100 * backend.weight) <= 20 * backend.weight + 3


def test_equals_take_turns(make):
    """Of idle backends with equal estimates each gets its share of the picks, within four standard deviations."""
    backends = make([1] * 4)
    for backend in backends:
        observe(backend, 0.01, 0.0)
    pair, selector = LeastLatency(backends[:2], Random(1)), LeastLatency(backends, Random(1))
    counts = Counter(pair.pick() for _ in range(4000))
    assert abs(counts[backends[0]] - 2000) < 130
    counts = Counter(selector.pick() for _ in range(4000))
    assert all(abs(counts[backend] - 1000) < 110 for backend in backends)


def test_a_new_backend_is_tried_by_one(make):
    """One without an estimate gets the next pick, and no more before it has answered."""
    old, new = make([1, 1])
    observe(old, 0.010, 0.0)
    selector = LeastLatency((old, new), Random(1))
    old.active = 3
    picked = selector.pick()
    assert picked is new
    picked.active += 1
    assert {selector.pick() for _ in range(100)} == {old}
    observe(new, 0.001, 1.0)
    assert selector.pick() is new


def test_one_that_was_slow_is_tried_again_by_one(make):
    """The estimate of an unused slow backend fades: it is tried once after TAU x ln(ratio) s, and returns if it is fast."""
    good, once_slow = make([1, 1])
    observe(once_slow, 1.0, 0.0)
    observe(good, 0.010, 0.0)
    selector = LeastLatency((good, once_slow), Random(1))
    observe(good, 0.010, 40.0)
    assert selector.pick() is good  # ln(100) x 10 s = 46 s
    observe(good, 0.010, 100.0)  # so long after that even a hundred at once would look cheap
    picked = selector.pick()
    assert picked is once_slow
    picked.active += 1
    assert {selector.pick() for _ in range(100)} == {good}
    observe(once_slow, 0.010, 100.01)
    once_slow.active -= 1
    assert once_slow.estimate < 0.020
    observe(once_slow, 0.010, 110.0)
    observe(good, 0.010, 110.0)
    good.active = 1
    assert {selector.pick() for _ in range(100)} == {once_slow}


def test_nobody_starves_in_the_long_run(make):
    """In ten minutes a backend ten times as slow is tried several times, and never by more than one in twenty."""
    fast, slow = make([1, 1])
    counts = serve(LeastLatency((fast, slow), Random(1)), {fast: 0.005, slow: 0.050}, 600, 50)
    assert 10 <= counts[slow] < 1500


def test_a_port_that_refuses_at_once_is_not_fast(make):
    """A failure counts as a second, however quickly it came."""
    refusing, slow = make([1, 1])
    observe(slow, 0.2, 0.0)
    failed(refusing, 0.0)
    assert refusing.estimate == FAILED
    selector = LeastLatency((refusing, slow), Random(1))
    assert {selector.pick() for _ in range(50)} == {slow}


def test_long_pauses_do_no_harm(make):
    """A backend that was last asked years ago is compared without overflow."""
    one, two = make([1, 1])
    observe(one, 1e-9, 0.0)
    observe(two, 100.0, 1e9)
    assert LeastLatency((one, two), Random(1)).pick() is one


@given(
    st.lists(st.tuples(st.floats(1e-6, 10), st.floats(0, 1000), st.integers(0, 50), st.integers(1, 9)), min_size=2, max_size=2)
)  # fmt: skip
def test_of_two_the_cheaper_one_by_the_formula(make, states):
    """The pick of a pair is the one whose cost, each faded to one common moment, is the less."""
    pair = make([weight for _, _, _, weight in states])
    costs = []
    for backend, (estimate, at, active, weight) in zip(pair, states, strict=True):
        backend.estimate, backend.observed, backend.tried, backend.active = estimate, at, at, active
        costs.append(estimate * exp(max(-600, (at - 1000) / TAU)) * (active + 1) / weight)
    picked = LeastLatency(pair, Random(1)).pick()
    assert costs[picked.index] <= min(costs) * (1 + 1e-9)


def test_excluded_ones_are_passed_over(make):
    """A retry picks one of the untried backends, down to the last one, and then None."""
    backends = make([65_535, 65_535, 1])
    selector = LeastLatency(backends, Random(1))
    assert {selector.pick(0, backends[:2]) for _ in range(20)} == {backends[2]}
    assert selector.pick(0, backends) is None
