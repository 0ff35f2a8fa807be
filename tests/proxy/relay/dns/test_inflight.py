"""How long a query waits, in numbers: no clock, no socket."""

import pytest

from proxy.relay.dns.inflight import GRAIN, RIPE, moments
from proxy.relay.native.dns_phases import Patience
from proxy.relay.native.timers import Timers


class Clock(Timers):
    """Timers whose time the test passes."""

    def go(self, start, stop):
        """Let the time from `start` to `stop` pass."""
        while (due := self.next_deadline()) is not None and due <= stop:
            self.expire(max(start, due))


class Bench:
    """A table that records its calls as (number, kind, time)."""

    def __init__(self, retry_after=0.4, give_up=4.5):
        self.clock = Clock()
        self.now = 0.0
        self.told = []
        self.table = Patience(self.clock, moments(retry_after, give_up), self.on_silent, self.on_end)

    def on_silent(self, number, now):
        """Note it."""
        self.told.append((number, "silent", pytest.approx(now, abs=GRAIN)))

    def on_end(self, number):
        """Note it, and finish the query."""
        self.told.append((number, "end", None))
        self.table.remove(number)

    def add(self, number, now):
        """Begin a query."""
        self.table.add(number, now)


@pytest.mark.parametrize(
    ("retry_after", "give_up", "silent"),
    [
        (0.4, 4.5, [0.4, 1.2, 2.0, 2.8, 3.6]),
        (0.4, 2.3, [0.4, 1.2]),
        (1.0, 1.5, [1.0]),
        (0.01, 4.5, [0.01 * (2 * turn + 1) for turn in range(8)]),
    ],
)
def test_silent_some_times_then_over(retry_after, give_up, silent):
    """U9: a query is silent after retry-after, then after each twice that, and over at give-up, with nothing left."""
    bench = Bench(retry_after, give_up)
    bench.add(1, 10.0)
    bench.clock.go(10.0, 20.0)
    assert bench.told == [*((1, "silent", 10 + when) for when in silent), (1, "end", None)]
    assert len(bench.table) == 0
    assert bench.clock.next_deadline() is None


@pytest.mark.parametrize("passed", [0.0, 0.5, 1.5, 4.0])
def test_what_is_removed_is_told_of_no_more(passed):
    """A query that was answered leaves at whichever phase it is."""
    bench = Bench()
    bench.add(1, 0.0)
    bench.clock.go(0.0, passed)
    assert len(bench.table) == 1
    bench.table.remove(1)
    told = list(bench.told)
    bench.clock.go(passed, 10.0)
    assert bench.told == told
    assert len(bench.table) == 0


def test_each_waits_from_its_own_start():
    """Queries that began at different times are due at different times, in their order."""
    bench = Bench()
    for number in range(5):
        bench.add(number, number * 0.1)
    bench.clock.go(0.0, 1.0)
    silent = [(number, when) for number, what, when in bench.told if what == "silent"]
    assert silent[:5] == [(number, pytest.approx(0.4 + number * 0.1, abs=GRAIN)) for number in range(5)]


def test_give_up_before_the_second_try():
    """Where give-up comes before twice retry-after has passed, it is not put off."""
    bench = Bench(retry_after=1.0, give_up=1.5)
    bench.add(1, 0.0)
    bench.clock.go(0.0, 1.49)
    assert bench.told == [(1, "silent", 1.0)]
    bench.clock.go(1.49, 1.5)
    assert bench.told[1:] == [(1, "end", None)]


def test_thousands_fall_silent_in_portions():
    """A look handles at most RIPE queries, so that ten thousand at once do not stop the worker."""
    bench = Bench()
    for number in range(3 * RIPE):
        bench.add(number, 0.0)
    bench.clock.expire(0.4)
    assert len(bench.told) == RIPE
    bench.clock.go(0.4, 0.4 + 3 * GRAIN)
    assert len(bench.told) == 3 * RIPE


def test_a_fault_costs_no_other_its_turn():
    """An exception while one query is asked again leaves the others their timer."""
    bench = Bench()

    def bad(_number, _now):
        bench.table.on_silent = bench.on_silent
        raise RuntimeError

    bench.table.on_silent = bad
    bench.add(1, 0.0)
    bench.add(2, 0.0)
    with pytest.raises(RuntimeError):
        bench.clock.expire(0.4)
    bench.clock.go(0.4, 0.5)
    assert [told[:2] for told in bench.told] == [(2, "silent")]


@pytest.mark.parametrize(("passed", "told"), [(0.0, []), (0.5, [(1, "silent")])])
def test_other_times_hold_for_queries_in_flight(passed, told):
    """With other times, a query is due by them at once if they have passed, and each query keeps its place in line."""
    bench = Bench()
    bench.add(1, 0.0)
    bench.add(2, 0.3)
    bench.clock.go(0.0, passed)
    assert [one[:2] for one in bench.told] == told
    bench.told.clear()
    bench.table.retime(moments(0.1, 0.2))
    bench.clock.go(0.6, 0.7)
    assert [one[:2] for one in bench.told if one[1] == "end"] == [(1, "end"), (2, "end")]
    assert len(bench.table) == 0
    assert bench.clock.next_deadline() is None
