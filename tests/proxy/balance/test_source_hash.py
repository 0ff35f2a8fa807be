"""source-hash."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from proxy.balance.hashing import hash_key
from proxy.balance.source_hash import SourceHash, by_name, first_left

WEIGHTS = st.lists(st.integers(1, 100), min_size=1, max_size=20)
KEYS = [hash_key(client.to_bytes(4, "big")) for client in range(4000)]


@given(WEIGHTS)
def test_shares_are_exact(make, weights):
    """Each backend owns as many buckets as its weight."""
    backends = make(weights)
    selector = SourceHash(backends, backends)
    counts = Counter(selector.pick(key) for key in range(sum(weights)))
    assert [counts[backend] for backend in backends] == weights


@given(WEIGHTS, st.integers(0, 2**64 - 1), st.randoms())
def test_a_client_keeps_its_backend(make, weights, key, random):
    """The choice depends on the key alone, not on load or the order of the backends."""
    backends = make(weights)
    picked = SourceHash(backends, backends).pick(key)
    picked.active = 1000
    shuffled = list(backends)
    random.shuffle(shuffled)
    assert SourceHash(shuffled, shuffled).pick(key) is picked


@given(WEIGHTS.filter(lambda weights: len(weights) > 1), st.data())
def test_a_verdict_moves_only_the_clients_of_its_backend(make, weights, data):
    """When one backend leaves, every client of the others keeps its own."""
    backends = make(weights)
    gone = data.draw(st.sampled_from(backends))
    full = SourceHash(backends, backends)
    rest = SourceHash([backend for backend in backends if backend is not gone], backends)
    for key in KEYS[:200]:
        if full.pick(key) is not gone:
            assert rest.pick(key) is full.pick(key)
        else:
            assert rest.pick(key) is not gone


def test_the_clients_of_a_lost_backend_spread_by_weight(make):
    """What the lost backend had goes to all others in proportion, not to a neighbour."""
    backends = make([4, 3, 2, 1])
    full = SourceHash(backends, backends)
    rest = SourceHash(backends[1:], backends)
    counts = Counter(rest.pick(key) for key in KEYS if full.pick(key) is backends[0])
    moved = counts.total()
    assert 1450 < moved < 1750
    for backend in backends[1:]:
        assert abs(counts[backend] / moved - backend.weight / 6) < 0.05


def test_when_nearly_all_are_lost_the_rest_share_by_weight(make):
    """With two usable of 200, they share all clients by their weights."""
    backends = make([1] * 198 + [3, 1])
    selector = SourceHash(backends[198:], backends)
    counts = Counter(selector.pick(key) for key in KEYS)
    assert set(counts) == set(backends[198:])
    assert abs(counts[backends[198]] / len(KEYS) - 0.75) < 0.05


@given(WEIGHTS, st.integers(0, 2**64 - 1))
def test_retries_are_deterministic_and_reach_everyone(make, weights, key):
    """Trying on gives the same sequence each time, through all backends, and ends with None."""
    backends = make(weights)
    selector = SourceHash(backends, backends)
    sequences = []
    for _ in range(2):
        tried = []
        while (backend := selector.pick(key, tried)) is not None:
            assert backend not in tried
            tried.append(backend)
        sequences.append(tried)
    assert sequences[0] == sequences[1]
    assert set(sequences[0]) == set(backends)


def test_by_name_and_first_left(make):
    """Backends are put in the order of names; the first one left is looked for going round."""
    backends = make([1, 1, 1])
    shuffled = list(backends)
    Random(1).shuffle(shuffled)
    assert by_name(shuffled) == backends
    assert first_left(backends, 2, backends[2:]) is backends[0]
    assert first_left(backends, 1, backends) is None
