"""maglev."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.balance.hashing import rehash
from proxy.balance.maglev import SIZES, Layout, Maglev, populate, quotas

WEIGHTS = st.lists(st.integers(1, 20), min_size=2, max_size=20)
SIZE = SIZES[0][1]


def table(selector, size=SIZE):
    return [selector.pick(slot) for slot in range(size)]


@given(st.lists(st.integers(1, 65_535), min_size=1, max_size=60), st.sampled_from([67, 211, 4093]))
def test_quotas_follow_the_weights(weights, size):
    """Quotas add up to the size, each is at least 1, and all are within one slot of exact if no share is below one slot."""
    shares = quotas(weights, size)
    exact = [weight * size / sum(weights) for weight in weights]
    assert sum(shares) == size
    assert min(shares) >= 1
    if min(exact) >= 1:
        assert all(abs(share - fair) < 1 for share, fair in zip(shares, exact, strict=True))


@settings(max_examples=25, deadline=None)
@given(WEIGHTS)
def test_shares_follow_the_weights(make, weights):
    """Each backend owns its share of the slots to within two of them."""
    backends = make(weights)
    counts = Counter(table(Maglev(backends, backends)))
    for backend in backends:
        assert abs(counts[backend] - SIZE * backend.weight / sum(weights)) < 2


@settings(max_examples=15, deadline=None)
@given(WEIGHTS, st.randoms())
def test_the_order_of_the_backends_does_not_matter(make, weights, random):
    """The table is the same for every order of the file: it follows from names and weights alone."""
    backends = make(weights)
    shuffled = list(backends)
    random.shuffle(shuffled)
    assert table(Maglev(backends, backends)) == table(Maglev(shuffled, shuffled))


def test_the_table_is_the_same_for_ever():
    """A layout known from the past comes out again, so that hosts of different versions agree."""
    assert populate(["ns1", "ns2", "ns3"], [5, 4, 4], 13) == [0, 2, 0, 1, 1, 2, 0, 1, 0, 2, 2, 0, 1]


@settings(max_examples=25, deadline=None)
@given(WEIGHTS, st.data())
def test_a_verdict_moves_exactly_the_keys_of_its_backend(make, weights, data):
    """When one of n leaves, its keys move, about 1/n where weights are equal, and no other; when it returns so do they."""
    backends = make(weights)
    gone = data.draw(st.sampled_from(backends))
    full = Maglev(backends, backends)
    less = Maglev([backend for backend in backends if backend is not gone], backends, full)
    before, after = table(full), table(less)
    assert gone not in after
    assert all(new is old for old, new in zip(before, after, strict=True) if old is not gone)
    assert abs(before.count(gone) - SIZE * gone.weight / sum(weights)) < 2
    assert table(Maglev(backends, backends, less)) == before


@pytest.mark.parametrize("count", [2, 5, 10, 32])
def test_a_backend_taken_out_of_the_file_moves_about_its_share(make, count):
    """When the layout itself loses one of n, at least 1/n of the keys move, and at most 3 % of all beside them."""
    backends = make([1] * count)
    before = table(Maglev(backends, backends))
    after = table(Maglev(backends[1:], backends[1:]))
    moved = sum(old is not new for old, new in zip(before, after, strict=True)) / SIZE
    assert 1 / count - 0.001 < moved < 1 / count + 0.03


@pytest.mark.parametrize("usable", [2, 4, 8])
def test_lost_slots_spread_by_weight(make, usable):
    """Whether few or most are lost, the usable ones share all slots by weight within a fifth."""
    backends = make([2, 1] * 6)
    counts = Counter(table(Maglev(backends[:usable], backends)))
    assert set(counts) == set(backends[:usable])
    total = sum(backend.weight for backend in backends[:usable])
    for backend in backends[:usable]:
        assert counts[backend] / SIZE == pytest.approx(backend.weight / total, rel=0.2)


def test_a_single_usable_backend_has_every_slot(make):
    """When all but one are lost, the one has all keys."""
    backends = make([1, 2, 3])
    assert set(table(Maglev(backends[:1], backends))) == {backends[0]}


def test_a_verdict_keeps_the_layout_and_a_weight_does_not(make):
    """The layout is taken over from the previous selector as long as backends and weights are the same."""
    backends = make([1, 2, 3])
    full = Maglev(backends, backends)
    assert full.holds_for(backends)
    assert not full.holds_for(make([1, 2, 3]))
    assert Maglev(backends[1:], backends, full)._layout is full._layout
    backends[0].weight = 2
    assert not full.holds_for(backends)
    assert Maglev(backends, backends, full)._layout is not full._layout


def test_retries_are_deterministic_and_reach_everyone(make):
    """Trying on gives the same sequence each time, through all backends, and ends with None."""
    backends = make([3, 1, 1, 20])
    selector = Maglev(backends, backends)
    for client in range(200):
        key = rehash(client)
        sequences = []
        for _ in range(2):
            tried = []
            while (backend := selector.pick(key, tried)) is not None:
                tried.append(backend)
            sequences.append(tried)
        assert sequences[0] == sequences[1]
        assert sorted(backend.index for backend in sequences[0]) == [0, 1, 2, 3]


@pytest.mark.parametrize(("count", "size"), [(1, 4093), (64, 4093), (65, 16381), (1024, 16381)])
def test_the_size_follows_the_number_configured(make, count, size):
    """The number of configured backends sets the table's size, so that verdicts do not."""
    assert len(Layout(make([1] * count)).owners) == size


def test_the_sizes_are_primes():
    """Every size is a prime, so that every step visits every slot."""
    for _, size in SIZES:
        assert all(size % divisor for divisor in range(2, int(size**0.5) + 1))
