"""What holds for every scheduler alike."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.balance import names
from proxy.balance.hashing import hash_key
from proxy.balance.selector import build

SCHEDULERS = sorted(names.SCHEDULERS)
KEYED = {names.SOURCE_HASH, names.DESTINATION_HASH, names.MAGLEV, names.DESTINATION_AFFINITY, names.DESTINATION_AFFINITY_REPLICATED}  # fmt: skip
COMPARING = {names.LEAST_CONNECTIONS, names.SHORTEST_EXPECTED_DELAY, names.NEVER_QUEUE, names.OVERFLOW, names.DESTINATION_AFFINITY, names.DESTINATION_AFFINITY_REPLICATED}  # fmt: skip
KEYS = [hash_key(client.to_bytes(4, "big")) for client in range(4000)]


@settings(deadline=None)
@given(
    st.sampled_from(SCHEDULERS),
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40),
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**40 - 1)), min_size=1, max_size=20),
    st.integers(),
)
def test_someone_allowed_whenever_someone_is_left(make, scheduler, members, picks, seed):
    """A pick is never excluded, unusable or of weight 0, and is None only if no other backend is left."""
    backends = make([weight for weight, _ in members])
    usable = [backend for backend, (_, up) in zip(backends, members, strict=True) if up]
    configured = [backend for backend in backends if backend.weight]
    selector = build(scheduler, usable, Random(seed), configured=configured)
    allowed = {backend for backend in usable if backend.weight}
    assert set(selector.backends) == allowed
    for key, bits in picks:
        for exclude in ((), tuple(backend for backend in backends if (bits >> backend.index) & 1)):
            picked = selector.pick(key, exclude)
            left = allowed.difference(exclude)
            assert (picked in left) if left else (picked is None)
            if picked is not None:
                picked.active += 1
                if selector.needs_changes:
                    selector.changed(picked)


@pytest.mark.parametrize("scheduler", [name for name in SCHEDULERS if name != names.FAILOVER])
@pytest.mark.parametrize("weights", [[1, 1], [3, 1], [5, 1, 2], [1] * 10, [2, 1] * 20])
def test_distribution_follows_the_weights(make, scheduler, weights):
    """4,000 clients that stay are shared by weight: no backend is off by more than a fifth plus 20 of them."""
    backends = make(weights)
    selector = build(scheduler, backends, Random(1))
    for key in KEYS:
        selector.pick(key).active += 1
    for backend in backends:
        fair = len(KEYS) * backend.weight / sum(weights)
        assert abs(backend.active - fair) <= 0.2 * fair + 20


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_only_hashing_schedulers_need_a_key(make, scheduler):
    """The others pick without one, so the relay need not compute it."""
    selector = build(scheduler, make([1, 1, 1]), Random(1))
    assert selector.needs_key == (scheduler in KEYED)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_only_many_backends_whose_loads_are_compared_need_changes(make, scheduler):
    """No selector up to 32 backends needs changes of loads; all accept them."""
    for count in (1, 2, 3, 32, 33):
        backends = make([1] * count)
        selector = build(scheduler, backends, Random(1))
        assert selector.needs_changes == (scheduler in COMPARING and count > 32)
        selector.changed(backends[0])
        selector.refreshed()


@pytest.mark.parametrize("scheduler", [names.SOURCE_HASH, names.DESTINATION_HASH, names.MAGLEV])
def test_hashing_keeps_the_clients_of_those_that_stay(make, scheduler):
    """Through down and up again of one of ten, only its own clients move, about a tenth, and they come back."""
    backends = make([1] * 10)
    full = build(scheduler, backends, Random(1), configured=backends)
    less = build(scheduler, backends[1:], Random(2), configured=backends, previous=full)
    back = build(scheduler, backends, Random(3), configured=backends, previous=less)
    moved = Counter(full.pick(key) for key in KEYS if full.pick(key) is not less.pick(key))
    assert set(moved) == {backends[0]}
    assert abs(moved.total() / len(KEYS) - 0.1) < 0.02
    assert all(full.pick(key) is back.pick(key) for key in KEYS)


@pytest.mark.parametrize("scheduler", ["nq", "rr", "nonsense"])
def test_what_cannot_be_built_is_refused(make, scheduler):
    """An alias or nonsense is an error that names it."""
    with pytest.raises(ValueError, match=scheduler):
        build(scheduler, make([1]), Random(1))
