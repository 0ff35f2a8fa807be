"""The epoll set of a worker: the events it handles, their order, and the mistakes it prevents."""

import asyncio
import math
import select
import socket
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import SimpleNamespace

import pytest
import uvloop

from proxy.relay.native import poller as module
from proxy.relay.native.poller import DATAGRAM, IN, OUT, RDHUP, Poller


class Bench:
    """A poller on a loop that the test runs, and socket pairs."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.loop = uvloop.new_event_loop()
        self.poller = Poller(self.loop, clock)
        self._open: list[socket.socket] = []

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Two connected datagram sockets: one for the poller, one for the test."""
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._open += pair
        return pair

    def watched(self, handler: Callable[[int], None]) -> socket.socket:
        """A watched socket that has something to read."""
        ours, theirs = self.pair()
        self.poller.register(ours, handler, DATAGRAM)
        theirs.send(b"x")
        return ours

    def run(self, until: Callable[[], object], within: float = 2.0) -> None:
        """Let the loop run until `until()` is true."""

        async def wait() -> None:
            async with asyncio.timeout(within):
                while not until():  # noqa: ASYNC110 - what is waited for knows nothing of asyncio
                    await asyncio.sleep(0.001)

        self.loop.run_until_complete(wait())

    def close(self) -> None:
        """Close everything."""
        self.poller.close()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()
        for sock in self._open:
            sock.close()


class Clock:
    """The poller's time, which passes only while a handler works: how busy this machine is makes no difference."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def busy(self, seconds: float) -> None:
        """Let time pass, as a handler under load does."""
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    """A clock of the test's own, which its poller uses."""
    return Clock()


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A poller of the test's own."""
    one = Bench(request.getfixturevalue("clock") if "clock" in request.fixturenames else None)
    yield one
    one.close()


def busy(seconds: float) -> None:
    """Use the processor for that long, as a handler under load does."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


# -- load


def test_timers_run_inside_a_pump_that_never_runs_dry(bench, clock) -> None:
    """A timer that becomes due under continuous load runs between two rounds of the same pump."""
    ran: list[int] = []
    rounds = 0

    def endless(mask: int) -> None:
        nonlocal rounds
        rounds += 1
        clock.busy(0.003)
        bench.poller.again(endless)

    bench.watched(endless)
    bench.poller.at(clock.now + 0.005, lambda _: ran.append(rounds))
    bench.poller.pump()
    assert ran, "no timer ran in the pump"
    assert ran[0] < rounds, "it ran after all the work, not between"


def test_continuous_load_starves_neither_timers_nor_the_loop(bench) -> None:
    """With a socket that is ready again after each event, timers of 10 ms and the loop's own callbacks keep coming.

    Handler calls of 1 ms measure the time between them: those of a pump or two, however slow this machine is.
    """
    calls = 0
    timers: list[int] = []
    others: list[int] = []
    ours, theirs = bench.pair()

    def endless(mask: int) -> None:
        nonlocal calls
        calls += 1
        busy(0.001)
        for _ in range(8):
            try:
                ours.recv(10)
            except BlockingIOError:
                break
            theirs.send(b"x")
        bench.poller.again(endless)

    def beat(now: float) -> None:
        timers.append(calls)
        bench.poller.at(now + 0.01, beat)

    def tick() -> None:
        others.append(calls)
        bench.loop.call_later(0.01, tick)

    bench.poller.register(ours, endless, DATAGRAM)
    theirs.send(b"x")
    beat(time.monotonic())
    tick()
    bench.run(lambda: len(timers) >= 10 and len(others) >= 10, within=20)
    for came in (timers, others):
        assert came[-1] > 0
        assert max(b - a for a, b in pairwise(came)) < 200


def test_a_pump_ends_within_its_budget_and_loses_nothing(bench, clock) -> None:
    """A pump returns to the loop after its budget, and the next pumps do the rest."""
    done: list[int] = []

    def worker(number: int) -> Callable[[int], None]:
        def handler(mask: int) -> None:
            clock.busy(0.001)
            if len(done) < 200:
                done.append(number)
                bench.poller.again(handler)

        return handler

    for number in range(8):
        bench.watched(worker(number))
    began = clock.now
    bench.poller.pump()
    assert module.BUDGET <= clock.now - began < 2 * module.BUDGET
    assert len(done) < 200
    bench.run(lambda: len(done) == 200)


def test_those_who_wait_take_turns(bench) -> None:
    """Handlers that ask to be called again are called in the order in which they asked."""
    calls: list[int] = []

    def worker(number: int) -> Callable[[int], None]:
        def handler(mask: int) -> None:
            calls.append(number)
            if len(calls) < 9:
                bench.poller.again(handler)

        return handler

    for number in range(3):
        bench.poller.again(worker(number))
    bench.poller.pump()
    assert calls[:9] == [0, 1, 2] * 3


def test_more_ready_sockets_than_a_round_takes_are_all_handled(bench) -> None:
    """A socket whose event did not fit into a round is handled in a later one."""
    seen: set[int] = set()
    for number in range(3 * module.EVENTS_A_ROUND):
        bench.watched(lambda mask, number=number: seen.add(number))
    bench.run(lambda: len(seen) == 3 * module.EVENTS_A_ROUND)


# -- again


def test_again_outside_the_pump_is_not_lost(bench) -> None:
    """Asked for from outside the pump, a call still comes, with mask 0, and once however often it was asked for."""
    masks: list[int] = []
    for _ in range(3):
        bench.poller.again(masks.append)
    assert bench.poller.waits(masks.append)
    bench.run(lambda: masks)
    bench.loop.run_until_complete(asyncio.sleep(0.01))
    assert masks == [0]


def test_again_from_a_timer_is_not_lost(bench) -> None:
    """Asked for by a timer, with nothing else to do, a call still comes."""
    masks: list[int] = []
    bench.poller.at(time.monotonic() + 0.005, lambda _: bench.poller.again(masks.append))
    bench.run(lambda: masks == [0])


def test_a_discarded_handler_is_not_called_again(bench) -> None:
    """A handler that asked to be called again and whose socket was discarded or forgotten since is not called."""
    calls: list[tuple[str, int]] = []

    def one(mask: int) -> None:
        calls.append(("one", mask))

    def two(mask: int) -> None:
        calls.append(("two", mask))

    first, second = bench.watched(one), bench.watched(two)

    def killer(mask: int) -> None:
        bench.poller.discard(first)
        bench.poller.forget(second)

    bench.poller.pump()
    calls.clear()
    bench.poller.again(killer)
    bench.poller.again(one)
    bench.poller.again(two)
    bench.poller.pump()
    assert calls == []


# -- sockets that end


def test_a_discarded_socket_gets_no_event_of_the_same_round(bench) -> None:
    """Of two sockets that are ready in one round, the one that the other's handler discards is not handled."""
    socks: list[socket.socket] = []
    calls: list[int] = []

    def worker(number: int) -> Callable[[int], None]:
        def handler(mask: int) -> None:
            calls.append(number)
            bench.poller.discard(socks[1 - number])

        return handler

    socks += [bench.watched(worker(0)), bench.watched(worker(1))]
    bench.poller.pump()
    assert len(calls) == 1
    assert socks[1 - calls[0]].fileno() == -1


def test_a_new_socket_gets_no_event_of_the_one_whose_number_it_has(bench) -> None:
    """A socket opened in the round in which another was discarded may have its number, and gets none of its events."""
    socks: dict[str, socket.socket] = {}
    fresh: list[socket.socket] = []
    masks: list[int] = []

    def first(mask: int) -> None:
        old = socks["second"].fileno()
        bench.poller.discard(socks["second"])
        fresh.extend(bench.pair())
        (new,) = [sock for sock in fresh if sock.fileno() == old]
        bench.poller.register(new, masks.append, DATAGRAM)

    socks["first"] = bench.watched(first)
    socks["second"] = bench.watched(lambda _: None)
    bench.poller.pump()
    assert bench.poller.faults == 0
    assert fresh
    assert masks == []


def test_a_forgotten_socket_stays_open_and_silent(bench) -> None:
    """R10: a member that went to another process is no longer reported here, although its description still exists."""
    calls: list[int] = []
    ours, theirs = bench.pair()
    elsewhere = ours.dup()
    bench.poller.register(ours, calls.append, DATAGRAM)
    bench.poller.forget(ours)
    assert ours.fileno() >= 0
    ours.close()
    theirs.send(b"x")
    before = bench.poller.events
    bench.poller.pump()
    assert calls == []
    assert bench.poller.events == before, "the kernel still reports it"
    assert elsewhere.recv(10) == b"x"
    elsewhere.close()


def test_discarding_outside_the_pump_closes_at_once(bench) -> None:
    """Where no round is under way, a discarded socket is closed immediately, and twice does no harm."""
    sock = bench.watched(lambda _: None)
    bench.poller.discard(sock)
    assert sock.fileno() == -1
    bench.poller.discard(sock)
    bench.poller.forget(sock)


def test_a_socket_that_cannot_be_watched_changes_nothing(bench) -> None:
    """A registration that the kernel refuses raises, and the handler that was there before stays."""
    masks: list[int] = []
    sock = bench.watched(masks.append)
    with pytest.raises(FileExistsError):
        bench.poller.register(sock, lambda _: None, DATAGRAM)
    bench.poller.pump()
    assert len(masks) == 1


# -- bugs


def test_an_exception_costs_one_event(bench, caplog) -> None:
    """An exception in a handler is counted and logged; the other events are handled, and the handler gets its next one."""
    calls: list[int] = []
    ours, theirs = bench.pair()

    def broken(mask: int) -> None:
        calls.append(-1)
        ours.recv(10)
        raise RuntimeError("a bug")

    bench.poller.register(ours, broken, DATAGRAM)
    theirs.send(b"x")
    bench.watched(lambda mask: calls.append(1))
    bench.poller.again(lambda mask: 1 // 0)
    bench.poller.again(lambda mask: calls.append(2))
    bench.poller.pump()
    assert sorted(calls) == [-1, 1, 2]
    assert bench.poller.faults == 2
    assert "a bug" in caplog.text
    theirs.send(b"x")
    bench.poller.pump()
    assert calls.count(-1) == 2
    assert bench.poller.faults == 3


def test_an_exception_in_a_timer_costs_that_timer(bench) -> None:
    """Timers behind one that raises still run, without anything else having to happen."""
    ran: list[float] = []
    due = time.monotonic() + 0.005
    bench.poller.at(due, lambda _: 1 // 0)
    bench.poller.at(due, lambda _: 1 // 0)
    bench.poller.at(due, ran.append)
    bench.run(lambda: ran)
    assert bench.poller.faults == 2


def test_faults_do_not_flood_the_log(bench, caplog) -> None:
    """Of an exception at every event, the first ten are logged, and then one in a thousand."""
    for _ in range(2500):
        bench.poller.again(lambda mask: 1 // 0)
    while bench.poller.faults < 2500:
        bench.poller.pump()
    assert len(caplog.records) == 12


# -- time


def test_timers_are_punctual(bench) -> None:
    """Timers run in order, none before its time and each within a few milliseconds of it."""
    late: list[tuple[int, float]] = []
    began = time.monotonic()
    for milliseconds in (60, 10, 30):
        due = began + milliseconds / 1000
        bench.poller.at(due, lambda now, due=due, ms=milliseconds: late.append((ms, now - due)))
    bench.run(lambda: len(late) == 3)
    assert [ms for ms, _ in late] == [10, 30, 60]
    assert all(0 <= by < 0.2 for _, by in late)


def test_an_earlier_timer_moves_the_alarm(bench) -> None:
    """A timer added before the one that the loop was armed for still runs at its own time; never is never."""
    ran: list[str] = []
    bench.poller.at(math.inf, lambda _: ran.append("never"))
    bench.poller.at(time.monotonic() + 5, lambda _: ran.append("late"))
    bench.poller.at(time.monotonic() + 0.01, lambda _: ran.append("soon"))
    bench.run(lambda: ran, within=1)
    assert ran == ["soon"]


# -- the end


def test_closing_with_work_pending_ends_it(bench) -> None:
    """A handler may close the poller: later events, calls and timers are not handled, and nothing raises."""
    calls: list[str] = []

    def last(mask: int) -> None:
        calls.append("last")
        bench.poller.discard(doomed)
        bench.poller.again(lambda _: calls.append("again"))
        bench.poller.close()
        bench.poller.close()

    bench.poller.at(time.monotonic(), lambda _: calls.append("timer"))
    socks = [bench.watched(last) for _ in range(3)]
    doomed, _ = bench.pair()
    bench.poller.pump()
    assert calls == ["last"]
    assert doomed.fileno() == -1
    assert all(sock.fileno() >= 0 for sock in socks), "they belong to their handlers"
    bench.poller.again(lambda _: calls.append("after"))
    bench.poller.at(time.monotonic(), lambda _: calls.append("after"))
    bench.poller.discard(socks[0])
    bench.loop.run_until_complete(asyncio.sleep(0.02))
    assert calls == ["last"]
    assert socks[0].fileno() == -1
    assert bench.poller.faults == 0


# -- what is asked for


@pytest.mark.parametrize(("events", "edges"), [(DATAGRAM, 0), (IN | OUT | RDHUP | select.EPOLLET, 100)])
def test_a_datagram_socket_tells_of_writability_after_every_send(bench, events, edges) -> None:
    """A hundred datagrams sent cost no wake-up as we register, and would cost one each if writability were asked for."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink, socket.socket(type=socket.SOCK_DGRAM) as sock:
        sink.bind(("127.0.0.1", 0))
        sock.connect(sink.getsockname())
        bench.poller.register(sock, lambda _: None, events)
        bench.poller.pump()
        before = bench.poller.events
        for _ in range(100):
            sock.send(b"x")
            sink.recv(10)
            bench.poller.pump()
        assert bench.poller.events - before == edges
        bench.poller.forget(sock)


def test_a_wake_up_that_does_not_know_its_time() -> None:
    """Deadlines are set although the loop's handle has no time: uvloop returns such a one if it has come already."""
    woken: list[float] = []
    handle = SimpleNamespace(cancel=lambda: None)
    loop = SimpleNamespace(
        add_reader=lambda *_: None,
        remove_reader=lambda *_: None,
        time=lambda: 0.0,
        call_at=lambda when, _: woken.append(when) or handle,
    )
    poller = Poller(loop, lambda: 0.0)
    try:
        for when in (1.0, 2.0, 0.5):
            poller.at(when, print)
    finally:
        poller.close()
    assert woken == [1.0, 0.5]
