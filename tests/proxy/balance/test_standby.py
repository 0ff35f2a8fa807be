"""Those that stand by: whose turn it is when all that serve were tried."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.balance import names
from proxy.balance.backend import Backend
from proxy.balance.pool import Pool
from proxy.balance.standby import WithStandbys

SCHEDULERS = sorted(names.SCHEDULERS)
KEYS = (0, 1, 2**40 + 7, 2**64 - 1)


def in_turn(selector, key=0):
    """Return everybody in the order in which one query that is never answered tries them."""
    tried = []
    while (backend := selector.pick(key, tuple(tried))) is not None:
        tried.append(backend)
    return tried


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("key", KEYS)
def test_who_stands_by_is_tried_after_all_that_serve(scheduler, key):
    """T9, U9: with every scheduler a query tries those that serve, then the fit ones: by tier, and in reserve last."""
    pool = Pool(
        [
            Backend("reserve", 0, 9, "reserve"),
            Backend("second", 1, 9, "standby", tier=2),
            Backend("serves", 2, 1, "up"),
            Backend("down", 3, 9, "down"),
            Backend("first", 4, 1, "standby", tier=1),
            Backend("drained", 5, 9, "standby", "drain"),
            Backend("in maintenance", 6, 9, "standby", "maint"),
            Backend("weightless", 7, 0, "standby"),
            Backend("ejected", 8, 9, "ejected"),
            Backend("serves too", 9, 1, "up", tier=1),
            Backend("was in reserve", 10, 9, "relieved", tier=1),
            Backend("unknown", 11, 9, "unknown"),
        ],
        scheduler,
        Random(1),
    )
    order = [backend.name for backend in in_turn(pool.selector(), key)]
    assert set(order[:2]) == {"serves", "serves too"}
    assert order[2:] == ["first", "second", "reserve", "was in reserve"]


@settings(deadline=None)
@given(
    st.sampled_from(SCHEDULERS),
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from(["up", "down", "reserve", "standby", "relieved", "ejected", "unknown"]),
            st.sampled_from(["ready", "ready", "ready", "drain", "maint"]),
            st.integers(0, 2),
        ),
        max_size=40,
    ),
    st.integers(0, 2**64 - 1),
    st.integers(),
)
def test_everybody_fit_has_a_turn_and_nobody_else(scheduler, members, key, seed):
    """T9: whatever the pool, one query tries each fit backend once, rank after rank, and no other."""
    backends = [
        Backend(f"b{place}", place, weight, verdict, admin, tier)
        for place, (weight, verdict, admin, tier) in enumerate(members)
    ]
    pool = Pool(backends, scheduler, Random(seed))
    selector, ranks = pool.selector(), pool.ranks()
    assert selector.pick(key) in (ranks[0] if ranks else (None,))
    order = in_turn(selector, key)
    for rank in ranks:
        assert set(order[: len(rank)]) == set(rank)
        del order[: len(rank)]
    assert order == []
    assert set(selector.backends) == set(pool.usable())
    assert [set(selector.standbys)] == [{backend for rank in ranks[1:] for backend in rank}]


@pytest.mark.parametrize("scheduler", [name for name in SCHEDULERS if name != names.FAILOVER])
def test_a_tier_takes_over_as_it_will_serve(make, scheduler):
    """T9: clients whose backend cannot be reached are shared by the whole next tier, by weight, not put upon its first one."""
    backends = make([1, 3, 1])
    pool = Pool(backends, scheduler, Random(1))
    for backend in backends[1:]:
        backend.tier = 1
        pool.set_verdict(backend.name, "standby")
    selector = pool.selector()
    for number in range(2000):
        picked = selector.pick(number * 0x9E3779B97F4A7C15 % 2**64, backends[:1])
        picked.active += 1
        if selector.needs_changes:
            selector.changed(picked)
    assert abs(backends[1].active - 1500) < 120


@pytest.mark.parametrize("scheduler", [names.LEAST_CONNECTIONS, names.SHORTEST_EXPECTED_DELAY, names.NEVER_QUEUE])
def test_the_loads_of_many_that_stand_by_are_known(make, scheduler):
    """A rank above the scan limit gets changes of loads, although the serving selector needs none."""
    backends = make([1] * 41)
    pool = Pool(backends, scheduler, Random(1))
    pool.update((backend.name, "standby", "ready") for backend in backends[1:])
    selector = pool.selector()
    assert (selector.needs_changes, selector.needs_ticks) == (True, False)
    for backend in backends[1:40]:
        backend.active = 1
        selector.changed(backend)
    assert selector.pick(0, backends[:1]) is backends[40]
    for backend in backends[2:]:
        backend.elsewhere = 5
    selector.refreshed()
    assert selector.pick(0, backends[:1]) is backends[1]


def test_failover_goes_by_tier_then_weight_then_file():
    """H14: those that stand by for a failover service are tried one by one as the master would choose them."""
    pool = Pool(
        [
            Backend("heavy backup", 0, 9, "standby", tier=1),
            Backend("light", 1, 1, "standby"),
            Backend("heavy", 2, 5, "standby"),
            Backend("serves", 3, 1, "up"),
            Backend("light too", 4, 1, "standby"),
        ],
        names.FAILOVER,
        Random(1),
    )
    order = [backend.name for backend in in_turn(pool.selector())]
    assert order == ["serves", "heavy", "light", "light too", "heavy backup"]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_between_two_verdicts_who_stands_by_serves(make, scheduler):
    """T9: when the last one that serves is taken out before others are called up, those that stand by serve at once."""
    pool = Pool(make([1, 1]), scheduler, Random(1))
    pool.set_verdict("10.0.0.1", "standby")
    assert pool.selector().pick() is pool["10.0.0.0"]
    assert pool.set_weight("10.0.0.0", 0)
    assert pool.selector().pick() is pool["10.0.0.1"]


def test_what_has_a_memory_keeps_it(make):
    """The table of destination-affinity outlives a backend that is a standby, then down, then a standby again."""
    pool = Pool(make([1, 1, 1]), names.DESTINATION_AFFINITY, Random(1))
    first = pool.selector().pick(7)
    other = next(backend for backend in pool.backends if backend is not first)
    for verdict in ("standby", "down", "standby"):
        pool.set_verdict(other.name, verdict)
        selector = pool.selector()
        assert isinstance(selector, WithStandbys) == (verdict == "standby")
        selector.tick(1.0)
        assert selector.needs_ticks
        assert selector.pick(7) is first
