"""Runs without a task, and the deadlines of runs and tasks."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from health.run import Deadline, Run
from health.waiting import IN, Waits


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets that do not block."""
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    with here, there:
        yield here, there


async def turn() -> None:
    """Let the loop look at its descriptors."""
    await asyncio.sleep(0.01)


async def test_a_run_goes_from_wait_to_wait(pair, leftovers) -> None:
    """A run begins within `begin`, goes on when its descriptor is ready or its future done, and needs no task."""
    waits, (here, there) = Waits(), pair
    future = asyncio.get_running_loop().create_future()
    steps: list[object] = []

    async def walk() -> None:
        steps.append(asyncio.current_task(waits.loop))
        steps.append(await waits.ready(here.fileno(), IN))
        steps.append(await future)

    run = Run(waits, walk())
    own = asyncio.current_task()
    run.begin()
    assert steps == [own]
    assert waits.running is None
    await turn()
    assert len(steps) == 1
    there.send(b"x")
    await turn()
    assert steps[1:] == [IN]
    assert not run.done()
    future.set_result("came")
    await turn()
    assert steps[2:] == ["came"]
    assert run.done()
    await leftovers.check()


async def test_a_future_that_fails_fails_in_the_run() -> None:
    """What a future has to tell instead of a result is raised where the run waits for it."""
    waits = Waits()
    future = asyncio.get_running_loop().create_future()
    caught: list[str] = []

    async def walk() -> None:
        try:
            await future
        except KeyError as error:
            caught.append(str(error))

    run = Run(waits, walk())
    run.begin()
    future.set_exception(KeyError("gone"))
    await turn()
    assert caught == ["'gone'"]
    assert run.done()


@pytest.mark.parametrize("what", ["descriptor", "future"])
async def test_cancel_has_ended_it(pair, leftovers, caplog, what: str) -> None:
    """H4: a run that is cancelled has cleaned up and ended when `cancel` returns, and nothing wakes it any more."""
    waits, (here, there) = Waits(), pair
    future = asyncio.get_running_loop().create_future()
    ended: list[str] = []

    async def walk() -> None:
        try:
            await (waits.ready(here.fileno(), IN) if what == "descriptor" else future)
            ended.append("went on")
        finally:
            ended.append("cleaned up")

    run = Run(waits, walk())
    run.begin()
    there.send(b"x")
    run.cancel()
    assert ended == ["cleaned up"]
    assert run.done()
    assert future.cancelled() is (what == "future")
    run.cancel()
    await turn()
    assert ended == ["cleaned up"]
    assert not caplog.records
    await leftovers.check()


async def test_who_ends_another_in_the_same_look(pair, leftovers, caplog) -> None:
    """H4: of two whose sockets are ready at once the first may end the second, which is not woken then."""
    waits, (here, there) = Waits(), pair
    runs: list[Run] = []
    woken: list[int] = []

    async def walk(number: int, one: socket.socket) -> None:
        await waits.ready(one.fileno(), IN)
        woken.append(number)
        runs[1 - number].cancel()

    runs += [Run(waits, walk(number, one)) for number, one in enumerate(pair)]
    for run in runs:
        run.begin()
    here.send(b"x")
    there.send(b"x")
    await turn()
    assert len(woken) == 1
    assert all(run.done() for run in runs)
    assert not caplog.records
    await leftovers.check()


async def test_a_descriptor_of_the_same_number_is_another(leftovers) -> None:
    """H4: a run that opens a descriptor with the number of an ended run's descriptor does not get the events of that run."""
    waits = Waits()
    pairs = [socket.socketpair() for _ in range(2)]
    numbers = [mine.fileno() for mine, _ in pairs]
    runs: list[Run] = []
    opened: list[socket.socket] = []
    woken: list[str] = []

    async def third(number: int) -> None:
        await waits.ready(number, IN)
        woken.append("third")

    async def walk(number: int) -> None:
        with pairs[number][0] as mine:
            await waits.ready(mine.fileno(), IN)
            runs[1 - number].cancel()
            opened.extend(socket.socketpair())
        assert opened[0].fileno() == numbers[1 - number]
        runs.append(Run(waits, third(numbers[1 - number])))
        runs[-1].begin()

    runs += [Run(waits, walk(number)) for number in range(2)]
    for run in runs:
        run.begin()
    for _, theirs in pairs:
        theirs.send(b"x")
    await turn()
    assert len(runs) == 3
    assert not woken
    runs[-1].cancel()
    for one in [*opened, *(theirs for _, theirs in pairs)]:
        one.close()
    await leftovers.check()


async def test_a_fault_costs_one_run() -> None:
    """The loop's exception handler gets the exception of a run, which ends only that run."""
    waits, loop = Waits(), asyncio.get_running_loop()
    told: list[str] = []
    loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))

    async def broken() -> None:
        raise ValueError("no such thing")

    run = Run(waits, broken())
    run.begin()
    assert run.done()
    assert told == ["no such thing"]
    assert waits.running is None


async def test_a_run_begun_by_another_is_its_own(pair, leftovers) -> None:
    """A run that begins another goes on waiting as itself."""
    waits, (here, there) = Waits(), pair
    woken: list[str] = []

    async def inner() -> None:
        await waits.ready(there.fileno(), IN)
        woken.append("inner")

    async def outer() -> None:
        begun.begin()
        assert waits.running is first
        await waits.ready(here.fileno(), IN)
        woken.append("outer")

    begun = Run(waits, inner())
    first = Run(waits, outer())
    first.begin()
    there.send(b"x")
    await turn()
    assert woken == ["outer"]
    here.send(b"x")
    await turn()
    assert woken == ["outer", "inner"]
    await leftovers.check()


async def test_a_deadline_ends_what_a_run_waits_for(pair, leftovers) -> None:
    """H4: a run whose time is over goes on from there with TimeoutError, whatever it waits for."""
    waits, (here, _) = Waits(), pair
    passed: list[str] = []

    async def walk() -> None:
        for what in (waits.ready(here.fileno(), IN), asyncio.get_running_loop().create_future()):
            try:
                with Deadline(waits, 0.01):
                    await what
            except TimeoutError:
                passed.append("timeout")
        with Deadline(waits, 60):
            passed.append("in time")

    run = Run(waits, walk())
    run.begin()
    while not run.done():
        await turn()
    assert passed == ["timeout", "timeout", "in time"]
    assert not waits._heap
    await leftovers.check()


async def test_a_run_cancelled_within_its_deadline_is_cancelled() -> None:
    """H4: a run that somebody cancels before its time is over ends as cancelled, not by TimeoutError."""
    waits = Waits()
    caught: list[str] = []

    async def walk() -> None:
        try:
            with Deadline(waits, 60):
                await asyncio.get_running_loop().create_future()
        except BaseException as error:
            caught.append(type(error).__name__)
            raise

    run = Run(waits, walk())
    run.begin()
    run.cancel()
    assert caught == ["CancelledError"]
    assert not waits._heap


async def test_a_deadline_ends_what_waits() -> None:
    """H4: when the time is over, the block ends by TimeoutError, and the task may continue."""
    waits = Waits()
    with pytest.raises(TimeoutError), Deadline(waits, 0.01):
        await asyncio.sleep(60)
    assert asyncio.current_task().cancelling() == 0
    with Deadline(waits, 0.01):
        pass
    await asyncio.sleep(0.03)  # the deadline is over, with its block
    assert not waits._heap


async def test_a_deadline_leaves_other_errors_alone() -> None:
    """What the block raises comes through, also when it turned the end of its time into something else."""
    waits = Waits()
    with pytest.raises(KeyError), Deadline(waits, 60):
        raise KeyError

    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise KeyError from None

    with pytest.raises(KeyError), Deadline(waits, 0.01):
        await stubborn()
    assert asyncio.current_task().cancelling() == 0


async def test_who_cancels_beside_a_deadline_wins() -> None:
    """H4: a task that is cancelled ends as cancelled, also when its time is over in the same moment."""
    waits = Waits()

    async def long() -> None:
        with Deadline(waits, 0.01):
            await asyncio.sleep(60)

    task = asyncio.ensure_future(long())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    both = asyncio.ensure_future(long())
    await asyncio.sleep(0)
    (moments,) = waits._moments.values()
    next(iter(moments)).callback()
    both.cancel()
    with pytest.raises(asyncio.CancelledError):
        await both
