"""The pool of a service."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.balance import names
from proxy.balance.backend import Backend
from proxy.balance.pool import Pool


@pytest.fixture
def pool(make):
    return Pool(make([1, 1, 1]), names.ROUND_ROBIN, Random(1))


def test_unknown_is_not_usable():
    """A pool without verdicts has no usable backends."""
    pool = Pool([Backend("ns1", 0), Backend("ns2", 1)], names.ROUND_ROBIN, Random(1))
    assert pool.usable() == ()
    assert pool.selector().pick() is None


@given(
    st.sampled_from(["up", "down", "reserve", "unknown"]),
    st.sampled_from(["ready", "drain", "maint"]),
    st.integers(0, 2),
)
def test_usable_is_fit_ready_and_weighing(verdict, admin, weight):
    """An only backend is usable exactly when it is up or in reserve, ready and of a weight above 0; only those are picked."""
    backend = Backend("ns1", 0)
    pool = Pool([backend], names.LEAST_CONNECTIONS, Random(1))
    pool.set_verdict("ns1", verdict)
    pool.set_admin("ns1", admin)
    pool.set_weight("ns1", weight)
    wanted = verdict in {"up", "reserve"} and admin == "ready" and weight > 0
    assert pool.usable() == ((backend,) if wanted else ())
    assert pool.selector().pick() is (backend if wanted else None)


def test_reserve_serves_only_while_nobody_is_up(pool):
    """H14: a backend in reserve gets something new only while no backend is up, ready and of a weight above 0."""
    first, second, third = pool.backends
    pool.set_verdict("10.0.0.2", "reserve")
    assert pool.usable() == (first, second)
    pool.set_verdict("10.0.0.0", "down")
    assert pool.set_verdict("10.0.0.1", "down")
    assert pool.usable() == (third,)
    assert pool.selector().pick() is third
    assert pool.set_verdict("10.0.0.0", "reserve")
    assert pool.usable() == (first, third)
    assert pool.set_verdict("10.0.0.1", "up")
    assert pool.selector().pick() is second
    pool.selector()
    assert pool.set_admin("10.0.0.1", "drain")
    assert pool.usable() == (first, third)
    pool.set_admin("10.0.0.1", "ready")
    pool.set_weight("10.0.0.1", 0)
    assert pool.usable() == (first, third)


def test_a_change_among_the_reserve_changes_who_stands_by(pool):
    """H14, T9: a backend that goes from reserve to down is tried no more; those that serve are the same."""
    pool.set_verdict("10.0.0.2", "reserve")
    before = pool.selector()
    assert before.standbys == (pool["10.0.0.2"],)
    assert pool.set_verdict("10.0.0.2", "down")
    assert (pool.selector().backends, pool.selector().standbys) == (before.backends, ())


def test_a_change_builds_a_new_selector_and_leaves_the_old_one_alone(pool):
    """A verdict gives a new selector; the old one keeps its members for its users."""
    old = pool.selector()
    assert pool.set_verdict("10.0.0.1", "down")
    new = pool.selector()
    assert new is not old
    assert [len(old.backends), len(new.backends)] == [3, 2]
    assert pool["10.0.0.1"] not in new.backends


def test_what_changes_nothing_builds_nothing(pool):
    """A verdict, an admin act or a weight that makes no difference to picking keeps the selector."""
    before = pool.selector()
    pool.set_admin("10.0.0.0", "drain")
    drained = pool.selector()
    assert drained is not before
    assert not pool.set_verdict("10.0.0.0", "down")
    assert not pool.set_admin("10.0.0.0", "maint")
    assert not pool.set_weight("10.0.0.1", 1)
    assert not pool.set_verdict("10.0.0.1", "up")
    assert pool.selector() is drained


def test_two_changes_at_once_are_one_selector(pool):
    """A change that was not yet built stays due, also after a second one that makes no difference."""
    assert pool.set_verdict("10.0.0.0", "down")
    assert pool.set_verdict("10.0.0.0", "down")
    assert [backend.name for backend in pool.selector().backends] == ["10.0.0.1", "10.0.0.2"]
    assert not pool.set_verdict("10.0.0.0", "down")


def test_many_changes_are_one(make, monkeypatch):
    """A message about any number of backends ranks them only twice, before and after, and once to build the selector."""
    pool = Pool(make([1] * 500), names.ROUND_ROBIN, Random(1))
    asked = []
    ranks = Pool.ranks
    monkeypatch.setattr(Pool, "ranks", lambda self: (asked.append(self), ranks(self))[1])
    assert pool.update((backend.name, "down", "ready") for backend in pool.backends[1:])
    assert pool.selector().backends == pool.backends[:1]
    assert len(asked) == 3
    assert not pool.update([])


def test_what_is_taken_back_at_once_builds_nothing(pool):
    """Of two changes of a backend in one message the last one counts."""
    before = pool.selector()
    assert not pool.update([("10.0.0.0", "down", "ready"), ("10.0.0.0", "up", "ready")])
    assert pool.selector() is before
    assert pool.update([("10.0.0.0", "down", "ready"), ("10.0.0.1", "up", "drain")])
    assert [backend.name for backend in pool.selector().backends] == ["10.0.0.2"]


def test_a_weight_of_zero_gives_nothing_new_and_returns(pool):
    """Weight 0 takes a backend out, a weight puts it back."""
    pool.set_weight("10.0.0.0", 0)
    assert pool["10.0.0.0"] not in pool.selector().backends
    assert pool["10.0.0.0"] not in pool.configured()
    pool.set_weight("10.0.0.0", 2)
    assert pool["10.0.0.0"] in pool.selector().backends


def test_the_layout_of_maglev_survives_verdicts(make):
    """After a verdict maglev moves only the clients of its backend: the table's layout is kept."""
    pool = Pool(make([1, 1, 1]), names.MAGLEV, Random(1))
    full = pool.selector()
    pool.set_verdict("10.0.0.0", "down")
    less = pool.selector()
    assert less._layout is full._layout
    kept = [slot for slot in range(4093) if full.pick(slot) is not pool["10.0.0.0"]]
    assert all(full.pick(slot) is less.pick(slot) for slot in kept)


def test_mistakes_of_the_caller_are_told(make, pool):
    """Duplicate names, misplaced indices, unknown schedulers and backends, and negative weights are errors."""
    one, two = make([1, 1])
    with pytest.raises(ValueError, match="same name"):
        Pool([one, Backend(one.name, 1)], names.MAGLEV, Random(1))
    with pytest.raises(ValueError, match="indices"):
        Pool([two, one], names.MAGLEV, Random(1))
    with pytest.raises(ValueError, match="nonsense"):
        Pool([one], "nonsense", Random(1))
    with pytest.raises(KeyError):
        pool.set_verdict("192.0.2.1", "up")
    with pytest.raises(ValueError, match="below 0"):
        pool.set_weight("10.0.0.0", -1)
    assert pool["10.0.0.0"].weight == 1


def test_who_serves_a_failover_service_is_first(make):
    """H14: a backend that goes on to serve while the heavier one stands by again is first at once, whatever came before."""
    pool = Pool(make([1, 2]), names.FAILOVER, Random(1))
    light, heavy = pool.backends
    assert pool.selector().pick() is heavy  # both serve, as in fail-open
    assert pool.update([(heavy.name, "standby", "ready")])
    assert pool.selector().pick() is light
    assert pool.selector().pick(0, (light,)) is heavy
