"""destination-affinity, with one backend for each destination and with several."""

from collections import Counter, OrderedDict
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.balance import affinity
from proxy.balance.affinity import CAPACITY, MOST_REPLICAS, SETTLED, UNUSED, Affinity, Replicated
from proxy.balance.hashing import hash_key

KINDS = pytest.mark.parametrize("kind", [Affinity, Replicated])
KEYS = [hash_key(name.to_bytes(4, "big")) for name in range(2000)]


@KINDS
@pytest.mark.parametrize("weights", [[1, 1], [3, 1], [1] * 10, [2, 1] * 20])
def test_new_destinations_follow_the_weights_and_stay(make, kind, weights):
    """Destinations that are new go to the least loaded, so by weight, and each is found where it was."""
    backends = make(weights)
    selector = kind(backends, Random(1))
    owners = {}
    for key in KEYS:
        owners[key] = selector.pick(key)
        owners[key].active += 1
    counts = Counter(owners.values())
    for backend in backends:
        assert abs(counts[backend] - len(KEYS) * backend.weight / sum(weights)) <= 2
    for backend in backends:
        backend.active = 0
    assert all(selector.pick(key) is owner for key, owner in owners.items())


@KINDS
def test_a_lost_backend_loses_its_destinations_and_no_other_moves(make, kind):
    """When a backend leaves, its destinations move, to stay even when it is back; those of the others do not."""
    backends = make([1, 1, 1])
    full = kind(backends, Random(1))
    owners = {key: full.pick(key) for key in KEYS[:300]}
    less = kind(backends[1:], Random(1), full)
    moved = {key: less.pick(key) for key in owners}
    assert all(moved[key] is owner for key, owner in owners.items() if owner is not backends[0])
    assert backends[0] not in moved.values()
    nobody = kind((), Random(1), less)
    assert nobody.pick(KEYS[0]) is None
    back = kind(backends, Random(1), nobody)
    assert all(back.pick(key) is owner for key, owner in moved.items())


def test_an_overloaded_backend_gives_its_destination_away(make):
    """It moves if its backend has more than its weight and twice the load that the least loaded would have, and stays."""
    one, two = make([1, 1])
    selector = Affinity((one, two), Random(1))
    owner = selector.pick(7)
    other = two if owner is one else one
    for active, there in ((1, 0), (2, 0), (6, 2)):
        owner.active, other.active = active, there
        assert selector.pick(7) is owner
    owner.active, other.active = 3, 0
    assert selector.pick(7) is other
    owner.active = 0
    assert selector.pick(7) is other


def test_a_busy_destination_gets_more_backends_and_gives_them_back(make):
    """Replicated: under load a destination has several backends and takes the least loaded of these; later they are one again."""
    backends = make([1, 1, 1, 1])
    selector = Replicated(backends, Random(1))
    selector.tick(1.0)
    used = set()
    for _ in range(40):
        picked = selector.pick(7)
        picked.active += 1
        used.add(picked)
    assert used == set(backends)
    assert max(backend.active for backend in backends) - min(backend.active for backend in backends) <= 3
    for backend in backends:
        backend.active = 0
    entry = selector._memory.table[7]
    for number in range(1, 5):
        selector.tick(1.0 + number * (SETTLED + 1))
        selector.pick(7)
    assert len(entry.backends) == 1
    only = selector.pick(7)
    assert {selector.pick(7) for _ in range(20)} == {only}


def test_equals_of_a_set_take_turns(make):
    """Replicated: equally loaded backends of a destination get equal numbers of picks."""
    backends = make([1, 1, 1])
    selector = Replicated(backends, Random(1))
    selector.pick(7)
    selector._memory.table[7].backends = list(backends)
    assert set(Counter(selector.pick(7) for _ in range(30)).values()) == {10}


def test_a_set_is_bounded(make):
    """Replicated: a destination has at most MOST_REPLICAS backends, however busy it is."""
    backends = make([1] * 40)
    selector = Replicated(backends, Random(1))
    for _ in range(2000):
        picked = selector.pick(7)
        picked.active += 1
        selector.changed(picked)
        assert len(selector._memory.table[7].backends) <= MOST_REPLICAS


@KINDS
def test_the_table_is_bounded_and_forgets(make, kind):
    """It holds the CAPACITY destinations that were used last, and drops those that were not used for a day."""
    selector = kind(make([1, 1]), Random(1))
    selector.tick(1.0)
    for key in range(CAPACITY + 10):
        selector.pick(key)
        selector.pick(0)
    table = selector._memory.table
    assert len(table) == CAPACITY
    assert 0 in table
    assert 1 not in table
    selector.tick(UNUSED)
    selector.pick(5000)
    for second in range(CAPACITY // affinity.FORGOTTEN_AT_ONCE + 1):
        selector.tick(UNUSED + 2.0 + second)
    assert list(table) == [5000]


@KINDS
def test_retries_change_nothing(make, kind):
    """A pick past a backend that failed leaves the destination where it is."""
    backends = make([1, 1, 1])
    selector = kind(backends, Random(1))
    owner = selector.pick(7)
    assert selector.pick(7, (owner,)) not in (owner, None)
    assert selector.pick(7) is owner
    assert selector.pick(7, backends) is None


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=2, max_size=6),
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from(["pick", "pick", "release", "lose"])), max_size=80),
    st.integers(),
)
def test_picks_agree_with_a_slow_model(make, weights, acts, seed):
    """Through any acts: the table's backend unless lost or overloaded, else one of the least loaded, which is noted."""
    backends = make(weights)
    usable = list(backends)
    selector = Affinity(backends, Random(seed))
    model = OrderedDict()
    for key, act in acts:
        if act == "release":
            backends[key % len(backends)].active = 0
        elif act == "lose":
            usable = [one for one in backends if one is not backends[key % len(backends)]]
            selector = Affinity(tuple(usable), Random(seed), selector)
        else:
            least = min(one.active / one.weight for one in usable)
            owner = model.get(key)
            picked = selector.pick(key)
            lighter = [one for one in usable if one.active / one.weight == least]
            if owner in usable and picked is not owner:
                assert owner.active > owner.weight
                assert owner.active / owner.weight > 2 * (picked.active + 1) / picked.weight
            if picked is not owner:
                assert picked in lighter
            elif owner.active > owner.weight:
                assert any(owner.active * one.weight <= 2 * (one.active + 1) * owner.weight for one in lighter)
            model[key] = picked
            picked.active += 1
