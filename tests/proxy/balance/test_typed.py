"""C integers give what Python's big ones do, up to the greatest weights and loads."""

from fractions import Fraction
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from proxy.balance import expected_delay, least_connections, random_two
from proxy.balance.affinity import Affinity
from proxy.balance.hashing import rehash
from proxy.balance.source_hash import SourceHash

GREATEST = 65_535  # config.schema.json
WEIGHTS = st.one_of(st.integers(1, GREATEST), st.sampled_from([1, 2, GREATEST - 1, GREATEST]))
LOADS = st.one_of(st.integers(0, 9), st.integers(0, (1 << 45) - 1), st.integers((1 << 45) - 9, (1 << 45) - 1))
POOLS = st.lists(st.tuples(WEIGHTS, LOADS, LOADS), min_size=2, max_size=32)
MASK = (1 << 64) - 1


def loaded(make, pool):
    """Return backends of these weights and loads."""
    backends = make([weight for weight, _, _ in pool])
    for backend, (_, here, elsewhere) in zip(backends, pool, strict=True):
        backend.active, backend.elsewhere = here, elsewhere
    return backends


def of(backend, more=0):
    """Return a backend's load for its weight, without rounding."""
    return Fraction(backend.active + backend.elsewhere + more, backend.weight)


@given(POOLS, st.integers(0, 99), st.sets(st.integers(0, 31)))
def test_the_least_load_is_picked(make, pool, seed, tried):
    """Least-connections picks a least load, compared without rounding, at any weights and loads."""
    backends = loaded(make, pool)
    exclude = tuple(backend for backend in backends if backend.index in tried)
    left = [backend for backend in backends if backend not in exclude]
    selector = least_connections.build(backends, Random(seed))
    picked = selector.pick(0, exclude)
    assert (picked is None) == (not left)
    assert picked is None or of(picked) == min(map(of, left))


@given(POOLS, st.integers(0, 99), st.booleans())
def test_the_least_delay_is_picked(make, pool, seed, idle_first):
    """Shortest expected delay and never-queue pick a least delay, compared without rounding, at any weights and loads."""
    backends = loaded(make, pool)

    def delay(backend):
        return of(backend, 1) if of(backend) or not idle_first else 0

    picked = expected_delay.build(backends, Random(seed), idle_first=idle_first).pick()
    assert delay(picked) == min(map(delay, backends))


@given(st.tuples(WEIGHTS, LOADS, LOADS), st.tuples(WEIGHTS, LOADS, LOADS), st.integers(0, 99))
def test_random_two_compares_exactly(make, one, two, seed):
    """Random-two never picks the more loaded of the two that it has drawn, at any weights and loads."""
    backends = loaded(make, [one, two])
    selector = random_two.RandomTwo(backends, Random(seed))
    drawn = {selector.pick() for _ in range(64)}
    least = min(backends, key=of)
    if of(backends[0]) != of(backends[1]) and len({backend.weight for backend in backends}) == 1:
        assert drawn == {least}


@given(st.tuples(WEIGHTS, LOADS, LOADS), st.tuples(WEIGHTS, LOADS, LOADS))
def test_relief_is_exact(make, one, two):
    """Destination-affinity moves a destination exactly if another backend would have less than half of the load."""
    backends = loaded(make, [one, two])
    selector = Affinity(backends, Random(1))
    first = selector.pick(7)
    other = backends[1 - first.index]
    first.active, other.active = other.active, first.active
    first.elsewhere, other.elsewhere = other.elsewhere, first.elsewhere
    moves = first.active + first.elsewhere > first.weight and of(other) < of(first) and of(first) > 2 * of(other, 1)
    assert (selector.pick(7) is other) == moves


@given(st.integers(0, MASK))
def test_rehash_cuts_to_64_bits(key):
    """The second hash is SplitMix64's, as big integers give it."""
    mixed = (key + 0x9E3779B97F4A7C15) & MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
    assert rehash(key) == mixed ^ (mixed >> 31)


@given(st.lists(WEIGHTS, min_size=1, max_size=40), st.integers(0, MASK))
def test_a_key_without_a_sign_finds_its_bucket(make, weights, key):
    """A key of 64 bits, of which the highest may be set, leads to the backend of its bucket."""
    backends = make(weights)
    at = key % sum(weights)
    for backend in sorted(backends, key=lambda one: one.name):
        at -= backend.weight
        if at < 0:
            break
    assert SourceHash(backends, backends).pick(key) is backend
