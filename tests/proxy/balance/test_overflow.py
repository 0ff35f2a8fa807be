"""overflow."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.balance import overflow
from proxy.balance.overflow import Overflow, OverflowHeap


def load(backend):
    return (backend.active + backend.elsewhere) / backend.weight


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=45),
    st.lists(st.tuples(st.sampled_from(["pick", "pick", "retry", "release", "refresh"]), st.integers(0, 9999)), max_size=150),
    st.booleans(),
    st.integers(),
)  # fmt: skip
def test_every_pick_is_the_first_with_room(make, weights, acts, heap, seed):
    """Through any sequence of acts it is the first by weight and file with room, and the least loaded where there is none."""
    backends = make(weights)
    selector = (OverflowHeap if heap else Overflow)(backends, Random(seed))
    order = sorted(backends, key=lambda backend: -backend.weight)
    held = []
    for act, number in acts:
        if act == "release" and held:
            backend = held.pop(number % len(held))
            backend.active -= 1
            selector.changed(backend)
        elif act == "refresh":
            for place, other in enumerate(backends):
                other.elsewhere = number * place % 4
            selector.refreshed()
        elif act in ("pick", "retry"):
            tried = [backends[number % len(backends)], order[0]] if act == "retry" else []
            left = [other for other in order if other not in tried]
            roomy = [other for other in left if other.active + other.elsewhere < other.weight]
            picked = selector.pick(0, tried)
            if not left:
                assert picked is None
                continue
            if roomy:
                assert picked is roomy[0]
            else:
                assert picked in left
                assert load(picked) == min(map(load, left))
            picked.active += 1
            held.append(picked)


@pytest.mark.parametrize("count", [3, 40])
def test_backends_fill_one_after_the_other(make, count):
    """Held picks go to the highest weight until it is full, then to the next; a place that becomes free is filled first."""
    backends = make([2, 3, *[1] * (count - 2)])
    selector = overflow.build(backends, Random(1))
    filled = []
    for _ in range(6):
        picked = selector.pick()
        picked.active += 1
        filled.append(picked.index)
    assert filled == [1, 1, 1, 0, 0, 2]
    backends[1].active -= 1
    selector.changed(backends[1])
    assert selector.pick() is backends[1]


@pytest.mark.parametrize("count", [3, 40])
def test_where_all_are_full_the_least_loaded_takes_it(make, count):
    """No client is refused for a weight: beyond it, loads follow the weights."""
    backends = make([2, *[1] * (count - 1)])
    selector = overflow.build(backends, Random(1))
    for _ in range(5 * (count + 1)):
        selector.pick().active += 1
    assert [backend.active for backend in backends] == [10, *[5] * (count - 1)]


def test_a_backend_with_room_is_found_without_a_search(make):
    """Among 1,000 backends most of which are full, a pick compares nothing, and one that fills up takes 20 comparisons."""
    backends = make([2] * 1000)
    selector = OverflowHeap(backends, Random(1))
    for count in range(1, 1500):
        before = selector.ranking.compared
        picked = selector.pick()
        assert selector.ranking.compared == before
        assert picked.index == (count - 1) // 2
        picked.active += 1
        selector.changed(picked)
        assert selector.ranking.compared - before <= 20
