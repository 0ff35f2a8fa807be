"""A service in a worker: verdicts, counts, hints."""

from dataclasses import replace
from random import Random

import pytest

from proxy.balance.hashing import hash_key
from proxy.balance.pool import Pool
from proxy.relay.plan import BackendPlan, DnsPlan, LimitsPlan, ServicePlan, TcpPlan, UdpPlan
from proxy.relay.service import Service
from proxy.stats.layout import BACKEND_ACTIVE, BACKEND_TOTAL, Layout

LAYOUT = Layout(16, 64)


class Bench:
    """One service with `count` backends, all up; their slots begin at 10."""

    def __init__(
        self,
        count: int,
        scheduler: str = "round-robin",
        state: str = "up",
        limits: LimitsPlan | None = None,
        hash_on: str = "source",
    ) -> None:
        backends = tuple(BackendPlan(10 + n, f"b{n}", "192.0.2.1", 53, 1, state) for n in range(count))
        plan = ServicePlan(
            2, "s", "plain", scheduler, hash_on, "keep", backends,
            TcpPlan(1, 1, 1, 1, 1), UdpPlan(1, 1, "drop-new"), DnsPlan(0.1, 1), limits=limits or LimitsPlan(),
        )  # fmt: skip
        self.now = 0.0
        self.hints: list[tuple[int, int]] = []
        self.failing: list[tuple[int, int, int]] = []
        self.cells = memoryview(bytearray(LAYOUT.size)).cast("q")
        self.service = Service(
            plan,
            LAYOUT,
            self.cells,
            Random(1),
            lambda *hint: self.hints.append(hint),
            lambda: self.now,
            failing=lambda *failing: self.failing.append(failing),
        )

    def moved(self, *changes: tuple[int, str, str]) -> tuple[list[str], list[str]]:
        """Apply changes; the names of those that went down and of those that are usable again."""
        moved = self.service.apply((10 + n, verdict, admin) for n, verdict, admin in changes)
        return [one.name for one in moved["down"]], [one.name for one in moved["up"]]

    def picks(self, count: int) -> list[str]:
        """The names of `count` picks in a row, sorted."""
        return sorted(picked.name for _ in range(count) if (picked := self.service.pick(0, ())) is not None)


def test_unknown_backends_get_nothing() -> None:
    """H1: before its first verdict a backend is picked for nothing, and the first `up` brings it in."""
    bench = Bench(2, state="unknown")
    assert bench.service.pick(0, ()) is None
    assert bench.moved((1, "up", "ready")) == ([], ["b1"])
    assert bench.picks(2) == ["b1", "b1"]


@pytest.mark.parametrize(
    ("before", "after", "down", "up"),
    [
        (("up", "ready"), ("down", "ready"), True, False),
        (("up", "drain"), ("down", "drain"), True, False),
        (("unknown", "ready"), ("down", "ready"), True, False),
        (("down", "ready"), ("down", "drain"), False, False),
        (("down", "ready"), ("up", "ready"), False, True),
        (("down", "ready"), ("up", "drain"), False, False),
        (("up", "drain"), ("up", "ready"), False, True),
        (("up", "ready"), ("up", "drain"), False, False),
        (("up", "ready"), ("up", "maint"), False, False),
        (("up", "ready"), ("reserve", "ready"), False, False),
        (("up", "ready"), ("up", "ready"), False, False),
    ],
)
def test_who_went_down_and_who_returned(before, after, down, up) -> None:
    """A backend goes down with its verdict, whatever the operator says, and returns when it may be picked again."""
    bench = Bench(2)
    bench.moved((0, *before))
    assert bench.moved((0, *after)) == (["b0"] * down, ["b0"] * up)


def test_what_is_taken_back_in_one_message_did_not_happen() -> None:
    """Down and up again in one message resets nothing; unknown slots are ignored."""
    bench = Bench(2)
    assert bench.moved((0, "down", "ready"), (0, "up", "ready"), (40, "down", "ready")) == ([], [])
    assert bench.picks(4) == ["b0", "b0", "b1", "b1"]


def test_the_selector_is_replaced_whole() -> None:
    """A change builds a new selector; the old one still picks from the old members."""
    bench = Bench(3)
    old = bench.service.selector
    epoch = bench.service.epoch
    bench.moved((0, "down", "ready"), (1, "down", "ready"))
    assert bench.service.selector is not old
    assert bench.service.epoch != epoch
    assert {one.name for one in old.backends} == {"b0", "b1", "b2"}
    assert bench.picks(3) == ["b2", "b2", "b2"]
    now, epoch = bench.service.selector, bench.service.epoch
    bench.moved((0, "down", "ready"), (2, "up", "ready"))
    assert bench.service.selector is now, "nothing has changed"
    assert bench.service.epoch == epoch


def test_many_verdicts_are_one_change(monkeypatch) -> None:
    """H1: one message with the verdicts of all backends does not rank them again for each verdict."""
    bench = Bench(30, state="unknown")
    asked = []
    usable = Pool.usable
    monkeypatch.setattr(Pool, "usable", lambda self: (asked.append(self), usable(self))[1])
    assert bench.moved(*((number, "up", "ready") for number in range(30)))[1] == [f"b{number}" for number in range(30)]
    assert len(asked) <= 3
    assert bench.service.epoch == 1


def test_a_draining_backend_that_goes_down_is_a_change() -> None:
    """U15: the epoch moves with every change of a backend, also where the selector stays the same."""
    bench = Bench(2)
    bench.moved((0, "up", "drain"))
    selector, epoch = bench.service.selector, bench.service.epoch
    bench.moved((0, "down", "drain"))
    assert bench.service.selector is selector
    assert bench.service.epoch != epoch


def test_counts_are_written_as_they_change() -> None:
    """`active` counts beginnings and ends, `total` counts beginnings, each in the backend's own cells."""
    bench = Bench(2)
    one, two = bench.service.targets
    for _ in range(3):
        bench.service.took(one)
    bench.service.gave_back(one)
    bench.service.took(two)
    cells = [(bench.cells[t.cell + BACKEND_ACTIVE], bench.cells[t.cell + BACKEND_TOTAL]) for t in (one, two)]
    assert cells == [(2, 3), (1, 1)]
    assert sum(bench.cells) == 7


@pytest.mark.parametrize("count", [2, 5, 40])
def test_least_connections_counts_ours_and_theirs(count) -> None:
    """The least-connections pick is right on the sum of both, below the scan limit and above it."""
    bench = Bench(count, "least-connections")
    service = bench.service
    service.refresh([10] * (count - 1) + [3])
    for _ in range(7):
        picked = service.pick(0, ())
        assert picked is service.targets[-1]
        service.took(picked)
    service.refresh([0] + [10] * (count - 1))
    assert service.pick(0, ()) is service.targets[0]
    for _ in range(count):
        service.took(service.targets[0])
    service.refresh([5] * (count - 1) + [0])
    for _ in range(4):
        service.gave_back(service.targets[-1])
    assert service.pick(0, ()) is service.targets[-1]


def test_hints_are_bounded() -> None:
    """H12: however often real traffic fails, a backend gets at most one hint in 100 ms, each backend its own."""
    bench = Bench(2)
    one, two = bench.service.targets
    for millisecond in range(1000):
        bench.now = 5.0 + millisecond / 1000
        bench.service.failed(one)
        bench.service.failed(two)
    assert bench.hints.count((2, 10)) == 10
    assert bench.hints.count((2, 11)) == 10


def test_the_first_failure_hints_at_once() -> None:
    """H12: the first failure brings the probe forward even where the clock has just begun."""
    bench = Bench(1)
    bench.service.failed(bench.service.targets[0])
    assert bench.hints == [(2, 10)]


def test_weights_are_taken_over() -> None:
    """A new weight applies from the next pick on; 0 means no new traffic; unknown slots are ignored."""
    bench = Bench(2)
    one = bench.service.targets[0]
    bench.service.weigh([(one.slot, 3), (40, 9)])
    assert bench.picks(4) == ["b0", "b0", "b0", "b1"]
    bench.service.weigh([(one.slot, 0)])
    assert bench.picks(2) == ["b1", "b1"]


def test_failures_that_are_far_apart_are_in_no_row() -> None:
    """H12: in one-way traffic, which has no successes, failures count in a row only within `errors_within` seconds."""
    bench = Bench(1, limits=LimitsPlan(errors=3, errors_within=20.0))
    (one,) = bench.service.targets
    for minute in range(100):
        bench.now = 60.0 * minute
        bench.service.erred(one)
    assert bench.failing == []
    for _ in range(2):
        bench.now += 20.0
        bench.service.erred(one)
    assert bench.failing == [(2, 10, 3)]


@pytest.mark.parametrize(
    ("hash_on", "of_a_query", "otherwise"),
    [
        ("source", b"2001:db8::1", b"2001:db8::1"),
        ("source-port", b"2001:db8::1 99", b"2001:db8::1 99"),
        ("listener", b"route", b"route"),
        ("query-name", b"\3www\0", b"2001:db8::1"),
    ],
)
def test_what_is_hashed(hash_on, of_a_query, otherwise) -> None:
    """The key follows `hash-on`; traffic without a query name, which is not an empty name, is hashed by its client."""
    service = Bench(1, hash_on=hash_on).service
    client = ("2001:db8::1", 99, 0, 0)
    assert service.key(b"route", client, b"\3WWW\0\0\1\0\1") == hash_key(of_a_query)
    assert service.key(b"route", client) == hash_key(otherwise)
    if hash_on == "query-name":
        assert service.key(b"route", client, b"") == hash_key(b"")
    for _ in range(2):
        assert service.rules(client, b"route", b"\3WWW\0\0\1\0\1") == (True, hash_key(of_a_query), 0)
        assert service.rules(client, b"route", None) == (True, hash_key(otherwise), 0)


def test_access_as_the_data_path_sees_it() -> None:
    """The rules of access are those of the plan, also after it has changed."""
    service = Bench(1).service
    service.change(replace(service.plan, allow=("192.0.2.0/24",), deny=("192.0.2.1/32",)))
    clients = [("192.0.2.1", 1), ("192.0.2.2", 1), ("10.0.0.1", 1), ("2001:db8::1", 1, 0, 0)]
    for _ in range(2):
        assert [service.rules(one, b"", None)[0] for one in clients] == [False, True, False, False]
    service.change(replace(service.plan, allow=()))
    assert [service.rules(one, b"", None)[0] for one in clients] == [False, True, True, True]
    service.change(replace(service.plan, deny=()))
    assert all(service.rules(one, b"", None)[0] for one in clients)
