"""Tests of the table of who polls what."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.workers.member_owners import Members, Moves, owner

WORKERS = 4
LISTENERS = 3
STEPS = st.lists(
    st.tuples(st.sets(st.integers(0, WORKERS - 1)), st.sets(st.integers(0, LISTENERS - 1))), min_size=1, max_size=12
)


def table():
    members = Members(WORKERS)
    for listener in range(LISTENERS):
        members.add(listener)
    return members


def polled(members):
    return {key: worker for worker in range(WORKERS) for key in members.polled_by(worker)}


def test_owner_is_the_next_able_one():
    """A member belongs to its own worker, else to the next able one after it, round the end, else to nobody."""
    assert [owner(2, able, 4) for able in ({0, 1, 2, 3}, {0, 3}, {0, 1}, set())] == [2, 3, 0, None]


@given(STEPS)
def test_every_member_has_exactly_one_able_worker(steps):
    """Whatever dies, returns, opens and closes: each member of an open listener has one able worker, others none."""
    members = table()
    for able, open_ in steps:
        members.settle(able, open_)
        found = [key for worker in range(WORKERS) for key in members.polled_by(worker)]
        assert len(found) == len(set(found))
        assert set(found) == ({(l, i) for l in open_ for i in range(WORKERS)} if able else set())  # noqa: E741
        assert set(polled(members).values()) <= able


@given(STEPS)
def test_moves_say_what_changed_and_nothing_else(steps):
    """Grants and releases turn what the workers polled before into what they poll now; who is granted had it not."""
    members = table()
    workers = {worker: set() for worker in range(WORKERS)}
    for able, open_ in steps:
        moves = members.settle(able, open_)
        for worker, keys in moves.releases.items():
            assert set(keys) <= workers[worker]
            workers[worker] -= set(keys)
        for worker, keys in moves.grants.items():
            assert not set(keys) & workers[worker]
            workers[worker] |= set(keys)
        assert all(workers[worker] == set(members.polled_by(worker)) for worker in workers)


@given(STEPS)
def test_nothing_moves_without_need(steps):
    """A member moves away from an able worker only to its own worker, or because its listener closed."""
    members = table()
    for able, open_ in steps:
        before = polled(members)
        members.settle(able, open_)
        after = polled(members)
        for (listener, index), worker in before.items():
            if worker in able and listener in open_ and after[listener, index] != worker:
                assert after[listener, index] == index


@given(STEPS)
def test_home_again(steps):
    """When all are able again each worker polls its own members and no others."""
    members = table()
    for able, open_ in steps:
        members.settle(able, open_)
    members.settle(range(WORKERS), range(LISTENERS))
    assert all(key[1] == worker for key, worker in polled(members).items())
    assert len(polled(members)) == WORKERS * LISTENERS


def test_settling_twice_moves_nothing():
    """A table that is in line already takes no moves."""
    members = table()
    members.settle({0, 2}, {0, 1})
    again = members.settle({0, 2}, {0, 1})
    assert not again.grants
    assert not again.releases


def test_what_a_dead_worker_polled_is_granted_and_not_taken_back():
    """The members of a worker that is gone go to the next one, and the dead one is told nothing."""
    members = table()
    members.settle({0, 1, 2, 3}, {0})
    members.lost(1)
    moves = members.settle({0, 2, 3}, {0})
    assert moves.grants == {2: [(0, 1)]}
    assert not moves.releases


def test_a_removed_listener_is_forgotten():
    """A listener that is replaced is polled by nobody, and its place in the table is free."""
    members = table()
    members.settle({0, 1, 2, 3}, {0, 1, 2})
    members.settle({0, 1, 2, 3}, {0, 2})
    members.remove(1)
    assert {listener for listener, _ in polled(members)} == {0, 2}
    assert members.settle({0, 1, 2, 3}, {0, 1, 2}) == Moves()


@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_a_group_of_another_size(workers, size, data):
    """R12: a group that was bound for another number of workers keeps its size, and each member is polled while one is able."""
    members = Members(workers)
    members.add(0, size)
    for _ in range(3):
        able = data.draw(st.sets(st.integers(0, workers - 1)))
        members.settle(able, [0])
        owners = [members.owner(0, index) for index in range(size)]
        assert set(owners) <= able if able else owners == [None] * size
    members.settle(set(range(workers)), [0])
    assert [members.owner(0, index) for index in range(size)] == [index % workers for index in range(size)]
    assert members.owner(0, size) is None
    members.remove(0)
    assert members.owner(0, 0) is None
