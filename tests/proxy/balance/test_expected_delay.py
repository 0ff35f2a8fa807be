"""shortest-expected-delay and never-queue."""

from collections import Counter
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.balance import expected_delay
from proxy.balance.least_connections import Scan
from proxy.balance.least_connections_heap import Heap

ACTS = st.lists(
    st.tuples(st.sampled_from(["pick", "pick", "retry", "release", "elsewhere", "refresh"]), st.integers(0, 9999)),
    max_size=150,
)


def delay(backend, idle_first):
    load = backend.active + backend.elsewhere
    return Fraction(load + 1, backend.weight) if load or not idle_first else Fraction(0)


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=45), ACTS, st.booleans(), st.booleans(), st.integers())
def test_every_pick_has_the_least_delay(make, weights, acts, idle_first, heap, seed):
    """Through any sequence of acts a pick has the least (load + 1) / weight of those left; an idle one comes first in nq."""
    backends = make(weights)
    selector = (Heap if heap else Scan)(backends, Random(seed), waiting=1, idle_first=idle_first)
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
            tried = [backend, backends[number % 7 % len(backends)]] if act == "retry" else []
            left = [other for other in backends if other not in tried]
            picked = selector.pick(0, tried)
            if not left:
                assert picked is None
                continue
            assert picked in left
            assert delay(picked, idle_first) == min(delay(other, idle_first) for other in left)
            picked.active += 1
            held.append(picked)


@pytest.mark.parametrize("count", [3, 40])
def test_a_quiet_service_keeps_to_the_fastest(make, count):
    """sed: picks one at a time all go to the highest weight, since the others would take longer; equals take turns."""
    backends = make([4, 4, *[1] * (count - 2)])
    selector = expected_delay.build(backends, Random(1), idle_first=False)
    counts = Counter(selector.pick() for _ in range(100))
    assert counts == {backends[0]: 50, backends[1]: 50}


@pytest.mark.parametrize("weights", [[3, 1], [5, 1, 2], [2, 1] * 20])
def test_idle_ones_take_turns_by_weight(make, weights):
    """nq: picks one at a time are shared exactly by weight, or one more or less with many backends."""
    selector = expected_delay.build(make(weights), Random(1), idle_first=True)
    counts = Counter(selector.pick() for _ in range(10 * sum(weights)))
    for backend, weight in zip(selector.backends, weights, strict=True):
        assert abs(counts[backend] - 10 * weight) <= (1 if len(weights) > 32 else 0)


@pytest.mark.parametrize("count", [2, 40])
def test_nobody_queues_while_somebody_is_idle(make, count):
    """nq: the slowest backend gets the next one if it alone is idle; sed lets it wait at one that is fast enough."""
    backends = make([100, *[1] * (count - 1)])
    for backend in backends[:-1]:
        backend.active = 1
    assert expected_delay.build(backends, Random(1), idle_first=True).pick() is backends[-1]
    assert expected_delay.build(backends, Random(1), idle_first=False).pick() is backends[0]


@pytest.mark.parametrize("idle_first", [False, True])
def test_held_ones_follow_the_weights(make, idle_first):
    """Filled up, each backend has its share by weight, give or take one a unit of weight."""
    for weights in ([3, 1], [7, 5, 1], [2, 1] * 20):
        backends = make(weights)
        selector = expected_delay.build(backends, Random(1), idle_first=idle_first)
        for _ in range(50 * sum(weights)):
            selector.pick().active += 1
        for backend in backends:
            assert abs(backend.active - 50 * backend.weight) <= backend.weight + 1


def test_retries_take_nobodys_turn(make):
    """With one of three failing, new picks still go round among all three."""
    backends = make([1, 1, 1])
    selector = expected_delay.build(backends, Random(1), idle_first=False)
    counts = Counter()
    for _ in range(30):
        picked = selector.pick()
        counts[picked] += 1
        if picked is backends[0]:
            assert selector.pick(0, (picked,)) is not picked
    assert set(counts.values()) == {10}
