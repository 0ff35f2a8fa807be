"""What probes wait for: sockets, moments and places."""

import asyncio
import math
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from health.waiting import IN, OUT, REMAINS, TICKS, CannotWait, Places, Waits


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets that do not block."""
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    with here, there:
        yield here, there


async def test_ready_says_for_what(pair, leftovers) -> None:
    """A wait ends with what the socket is ready for, an end of the stream included, and nothing is left of it."""
    waits, (here, there) = Waits(), pair
    assert await waits.ready(here.fileno(), OUT) == OUT
    waiting = asyncio.ensure_future(waits.ready(here.fileno(), IN))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    there.send(b"x")
    assert await waiting == IN
    there.close()
    assert await waits.ready(here.fileno(), IN) & IN
    await leftovers.check()


async def test_each_waits_for_his_own(pair, leftovers) -> None:
    """Of several waiters only the one with a ready socket is woken."""
    waits, (here, there) = Waits(), pair
    first, second = (asyncio.ensure_future(waits.ready(one.fileno(), IN)) for one in (here, there))
    await asyncio.sleep(0)
    here.send(b"x")
    assert await second == IN
    await asyncio.sleep(0.01)
    assert not first.done()
    there.send(b"x")
    assert await first == IN
    await leftovers.check()


async def test_a_cancelled_wait_leaves_nothing(pair, leftovers) -> None:
    """H4: a waiter that is cancelled during its wait, or just as its event has come, leaves no watched descriptor."""
    waits, (here, there) = Waits(), pair
    waiting = asyncio.ensure_future(waits.ready(here.fileno(), IN))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await leftovers.check()
    waiting = asyncio.ensure_future(waits.ready(here.fileno(), IN))
    await asyncio.sleep(0)
    there.send(b"x")
    asyncio.get_running_loop().call_later(0.01, waiting.cancel)
    await asyncio.wait([waiting])
    await leftovers.check()


async def test_who_cannot_be_watched_is_told(pair, leftovers) -> None:
    """T20: without a descriptor left for the set a wait fails in words, leaves nothing, and works again later."""
    waits, (here, _) = Waits(), pair
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        with pytest.raises(CannotWait, match="Too many open files"):
            await waits.ready(here.fileno(), OUT)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    await leftovers.check()
    with open(os.devnull) as file, pytest.raises(CannotWait, match="not permitted"):  # noqa: ASYNC230, PTH123 - for its number
        await waits.ready(file.fileno(), OUT)
    assert await waits.ready(here.fileno(), OUT) == OUT
    await leftovers.check()


async def test_moments_come_in_order_and_never_early() -> None:
    """Moments are called in the order of their times, none before its time, those that are over already at once."""
    waits, loop = Waits(), asyncio.get_running_loop()
    called: list[tuple[str, float]] = []
    done = asyncio.Event()
    now = loop.time()
    for name, when in (("late", now + 0.05), ("past", now - 1), ("soon", now + 0.02), ("same", now + 0.02)):
        waits.at(when, lambda name=name, when=when: called.append((name, loop.time() - when)))
    waits.at(now + 0.06, done.set)
    await asyncio.wait_for(done.wait(), 10)
    assert [name for name, _ in called] == ["past", "soon", "same", "late"]
    assert all(late >= 0 for _, late in called)


async def test_a_sooner_moment_is_not_kept_waiting() -> None:
    """A moment that is sooner than all before it, and one that another adds, come at their own times."""
    waits, loop = Waits(), asyncio.get_running_loop()
    waits.at(loop.time() + 3600, lambda: None)
    done = asyncio.Event()
    waits.at(loop.time() + 0.01, lambda: waits.at(loop.time() + 0.01, done.set))
    await asyncio.wait_for(done.wait(), 10)


async def test_cancelled_moments_are_not_called() -> None:
    """A cancelled moment is never called, not even in the round of the moment that cancelled it; a second cancel is harmless."""
    waits, loop = Waits(), asyncio.get_running_loop()
    called: list[str] = []
    done = asyncio.Event()
    now = loop.time()

    def first() -> None:
        called.append("first")
        second.cancel()
        second.cancel()

    mine = waits.at(now, first)
    second = waits.at(now, lambda: called.append("second"))
    waits.at(now, done.set)
    await asyncio.wait_for(done.wait(), 10)
    mine.cancel()
    assert called == ["first"]


async def test_moments_of_a_tick_share_a_round() -> None:
    """Moments within one tick are called together at its end, so that a thousand timeouts are not as many wake-ups."""
    waits, loop = Waits(), asyncio.get_running_loop()
    called: list[float] = []
    done = asyncio.Event()
    begin = math.ceil(loop.time() * TICKS + 2) / TICKS
    for part in range(1, 100):
        waits.at(begin + part / 100 / TICKS, lambda: called.append(loop.time()))
    waits.at(begin + 1 / TICKS, done.set)
    assert len(waits._heap) == 1
    await asyncio.wait_for(done.wait(), 10)
    assert len(called) == 99
    assert min(called) >= begin + 1 / TICKS


async def test_a_moment_of_the_round_may_be_cancelled_after_another_came(caplog) -> None:
    """A moment may be cancelled by its own round, also when a new one has come to the same tick meanwhile."""
    waits, loop = Waits(), asyncio.get_running_loop()
    called: list[str] = []
    done = asyncio.Event()
    past = loop.time() - 1

    def first() -> None:
        waits.at(past, done.set)
        second.cancel()

    waits.at(past, first)
    second = waits.at(past, lambda: called.append("second"))
    await asyncio.wait_for(done.wait(), 10)
    assert not called
    assert not caplog.records


async def test_no_moment_no_timer() -> None:
    """When nothing is to come any more, the loop is left with no timer, and cancelled moments do not pile up."""
    waits, loop = Waits(), asyncio.get_running_loop()
    kept = waits.at(loop.time() + 3600, lambda: None)
    for number in range(100 * REMAINS):
        waits.at(loop.time() + 7200 + number, lambda: None).cancel()
        assert len(waits._heap) <= REMAINS + 3
    kept.cancel()
    assert not waits._heap
    assert not [handle for handle in loop._scheduled if not handle.cancelled()]


async def test_a_fault_costs_one_moment() -> None:
    """The loop's exception handler gets the exception of a callback, and the other callbacks are called."""
    waits, loop = Waits(), asyncio.get_running_loop()
    told: list[str] = []
    loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))
    done = asyncio.Event()

    def broken() -> None:
        raise ValueError("no such thing")

    waits.at(loop.time(), broken)
    waits.at(loop.time(), done.set)
    await asyncio.wait_for(done.wait(), 10)
    assert told == ["no such thing"]


async def test_places_go_round_in_order() -> None:
    """H5: no more callers than there are places have one, and the caller that has waited longest gets the next."""
    places = Places(1)
    assert places.take()
    assert not places.take()
    order: list[int] = []

    async def visit(number: int) -> None:
        await places.turn()
        order.append(number)
        places.give()

    visits = [asyncio.ensure_future(visit(number)) for number in range(3)]
    await asyncio.sleep(0)
    places.give()
    await asyncio.gather(*visits)
    assert order == [0, 1, 2]
    assert places.take()
    assert not places.take()


async def test_who_no_longer_waits_takes_no_place() -> None:
    """H4: a caller that is cancelled while it waits for a place, or as it gets one, leaves the place to the next."""
    places = Places(1)
    assert places.take()
    gone, unlucky, next_one = (asyncio.ensure_future(places.turn()) for _ in range(3))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    places.give()  # to the unlucky one
    unlucky.cancel()
    await asyncio.wait([unlucky])
    await asyncio.wait_for(next_one, 10)
    assert not places.take()
    places.give()
    assert places.take()
