"""The heap of deadlines, against a sorted list."""

import gc
import math
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.native.timers import Timers

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 50)),
        st.tuples(st.just("cancel"), st.integers(0, 1000)),
        st.tuples(st.just("expire"), st.integers(0, 8)),
        st.tuples(st.just("expire one"), st.integers(0, 8)),
    ),
    max_size=200,
)


@given(OPERATIONS)
def test_timers_run_as_a_sorted_list_would(operations) -> None:
    """Whatever is added, cancelled and expired: those due run once each, by time, then by age, and no others."""
    timers = Timers()
    model: list[tuple[float, int]] = []
    made = []
    ran: list[int] = []
    now = 0.0
    for what, value in operations:
        if what == "add":
            number = len(made)
            made.append(timers.add(now + value, lambda _, number=number: ran.append(number)))
            model.append((now + value, number))
        elif what == "cancel" and made:
            number = value % len(made)
            made[number].cancel()
            model = [entry for entry in model if entry[1] != number]
        elif what.startswith("expire"):
            now += value
            most = 1 if what == "expire one" else 1000
            due = sorted(entry for entry in model if entry[0] <= now)[:most]
            model = [entry for entry in model if entry not in due]
            ran.clear()
            assert timers.expire(now, most) == len(due)
            assert ran == [number for _, number in due]
        assert len(timers) == len(model)
        assert timers.next_deadline() == (min(model)[0] if model else None)


def test_cancelled_timers_do_not_pile_up() -> None:
    """A hundred thousand timers an hour ahead, each cancelled at once, leave nothing in the heap."""
    timers = Timers()
    kept = [timers.add(3600.0 + number, lambda _: None) for number in range(100)]
    for _ in range(100_000):
        timers.add(3600.0, lambda _: None).cancel()
        assert len(timers) == len(kept)
    assert timers.next_deadline() == 3600.0


def test_cancel_frees_what_the_callback_holds() -> None:
    """What a cancelled timer would have called is freed at once, not when it would have been due."""

    class Connection:
        def due(self, now: float) -> None:
            raise AssertionError

    timers = Timers()
    connection = Connection()
    alive = weakref.ref(connection)
    timer = timers.add(3600.0, connection.due)
    del connection
    assert alive() is not None
    timer.cancel()
    gc.collect()
    assert alive() is None
    timer.cancel()
    assert len(timers) == 0


def test_a_timer_may_cancel_and_add_others_while_it_runs() -> None:
    """A callback may cancel all other timers and add one that is due, which then runs next."""
    timers = Timers()
    ran: list[str] = []
    others = [timers.add(2.0, lambda _: ran.append("cancelled")) for _ in range(256)]

    def first(now: float) -> None:
        ran.append("first")
        for other in others:
            other.cancel()
        timers.add(now, lambda _: ran.append("added"))

    timers.add(1.0, first)
    last = timers.add(3.0, lambda _: ran.append("last"))
    assert timers.expire(3.0) == 3
    assert ran == ["first", "last", "added"]
    last.cancel()
    assert (len(timers), timers.next_deadline()) == (0, None)


def test_a_timer_that_raises_costs_itself() -> None:
    """After a callback raised, the timers behind it run at the next call, and it does not run again."""
    timers = Timers()
    ran: list[float] = []
    timers.add(1.0, lambda _: 1 // 0)
    timers.add(1.0, ran.append)
    with pytest.raises(ZeroDivisionError):
        timers.expire(5.0)
    assert timers.expire(6.0) == 1
    assert ran == [6.0]


def test_never_is_a_time() -> None:
    """A timer at infinity is kept, never runs, and `clear` forgets it with the rest."""
    timers = Timers()
    timers.add(math.inf, lambda _: 1 // 0)
    assert timers.expire(1e18) == 0
    assert timers.next_deadline() == math.inf
    timers.clear()
    assert (len(timers), timers.next_deadline()) == (0, None)
