"""proxy.succession.handing_over: each step, and what is undone if the successor fails at it."""

import asyncio
import os
import sys
from types import SimpleNamespace

import pytest

from proxy.processes import channel
from proxy.stats.layout import Layout
from proxy.stats.translation import Shape
from proxy.succession import handing_over as module
from proxy.succession import protocol, spawning
from proxy.succession.document import Late, ShapeRow, State
from proxy.succession.handing_over import HandingOver, NotHandedOverError
from proxy.succession.link import Link

STATE = State(shape=ShapeRow.model_validate(Shape.of(Layout(1, 1)).tree()))


class Recorder:
    """A part of a daemon that notes what is asked of it."""

    def __init__(self, name, calls):
        self._name, self._calls = name, calls
        self.children = []
        self.config = SimpleNamespace(node=SimpleNamespace(name="n"))
        self.nurses = {}

    def __getattr__(self, name):
        return lambda *given: self._calls.append(" ".join([self._name, name, *(str(one is not None) for one in given)]))

    async def written(self):
        """Write what waits."""
        self._calls.append(f"{self._name} written")
        if self._calls.count("state written") == self.fails:
            raise RuntimeError("a bug")

    fails = 0


class Estate:
    """A daemon that hands over a descriptor and empty documents."""

    def __init__(self):
        self.calls, self.pid = [], 4711
        for name in (
            "control",
            "workers",
            "former",
            "prober",
            "redundancy",
            "notifications",
            "timeline",
            "state",
            "running",
        ):
            setattr(self, name, Recorder(name, self.calls))

    async def document(self):
        """Return what a successor needs to start."""
        return STATE, {"store": 2}

    async def late(self):
        """Return what it needs to begin."""
        return Late(), {"base": 2}


UNDONE = [
    "timeline release",
    "state sign True",
    "control resume",
    "prober resume",
    "redundancy recover",
    "notifications release",
    "former resume",
]


@pytest.fixture
def estate():
    return Estate()


@pytest.fixture
def handing(estate):
    return HandingOver(estate, lambda: dict(os.environ))


async def played(handing, *script):
    """Hand over to a successor that takes what comes and answers each message of a kind; return the steps that were told.

    The script is of pairs (kind that is awaited, message that is sent, None to leave).
    """
    ours, theirs = channel.pair()
    link, steps, names = Link(theirs), [], []

    async def answer():
        for awaited, message in script:
            got = None
            while not isinstance(got, awaited):
                got, fds = await link.receive()
                names.extend(got.names if isinstance(got, protocol.Hold) else [])
                for fd in fds:
                    os.close(fd)
            if message is None:
                link.close()
                return
            link.send(message)

    answering = asyncio.create_task(answer())
    try:
        return await handing.give(ours, steps.append), steps, names
    finally:
        answering.cancel()
        link.close()


async def test_all_steps(handing, estate):
    """A successor that is ready, and then polls, has everything, and nothing is undone."""
    successor, steps, names = await played(
        handing, (protocol.State, protocol.Ready(7)), (protocol.Go, protocol.Polling([3]))
    )
    successor.link.close()
    assert (successor.pid, successor.listeners, names) == (7, {3}, ["store", "base"])
    assert [one.split(":")[0] for one in steps] == [
        "pid 7 is ready",
        "its workers poll, and it answers on the control socket",
    ]
    assert estate.calls.index("redundancy abandon") < len(estate.calls)
    assert not set(UNDONE) & set(estate.calls)
    assert not handing.busy


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ([(protocol.Hello, protocol.Refused("no room", 2))], "no room"),
        ([(protocol.State, None)], "has ended"),
        ([(protocol.State, protocol.Polling())], "answered Polling and not Ready"),
    ],
)
async def test_a_failure_before_it_begins(handing, estate, script, why):
    """If the successor fails before it is let go, workers may start again and changes are obeyed; nothing else was stopped."""
    with pytest.raises(NotHandedOverError, match=why) as caught:
        await played(handing, *script)
    assert caught.value.code == (2 if why == "no room" else 1)
    assert [one for one in estate.calls if one != "state written"] == [
        "control refuse_changes True", "workers freeze", "workers thaw", "control refuse_changes False",
    ]  # fmt: skip
    assert not handing.busy


@pytest.mark.parametrize("last", [None, protocol.Refused("full"), protocol.Ready(1)])
async def test_a_failure_after_it_was_let_go(handing, estate, last):
    """R12: if the successor fails when it was let go already, all that had been stopped goes on."""
    with pytest.raises(NotHandedOverError):
        await played(handing, (protocol.State, protocol.Ready(7)), (protocol.Go, last))
    assert [one for one in estate.calls if one in UNDONE] == UNDONE
    assert estate.calls[-2:] == ["workers thaw", "control refuse_changes False"]


@pytest.mark.parametrize(("limit", "script"), [("START", []), ("BEGIN", [(protocol.State, protocol.Ready(7))])])
async def test_a_successor_that_says_nothing(handing, estate, monkeypatch, limit, script):
    """A successor that is not ready, or does not poll, in time is given up, and told so."""
    monkeypatch.setattr(module, limit, 0.05)
    with pytest.raises(NotHandedOverError, match=r"after 0\.05 s"):
        await played(handing, *script)
    assert estate.calls[-1] == "control refuse_changes False"
    assert ("redundancy recover" in estate.calls) == (limit == "BEGIN")


async def test_messages_of_a_newer_version_are_passed_over(handing):
    """A message of an unknown kind is no answer: the next one is awaited."""
    ours, theirs = channel.pair()
    giving = asyncio.create_task(handing.give(ours, lambda _: None))
    theirs.send(b'J{"kind": "Applaud"}')
    theirs.send(b"J" + protocol.encode(protocol.Ready(7)))
    theirs.send(b"J" + protocol.encode(protocol.Polling([1])))
    successor = await giving
    assert (successor.pid, successor.listeners) == (7, {1})
    successor.link.close()
    theirs.close()


async def test_a_second_attempt_is_refused(handing):
    """While one attempt is under way, another is refused; so is one when too many former daemons still have workers."""
    ours, theirs = channel.pair()
    first = asyncio.create_task(handing.give(ours, lambda _: None))
    await asyncio.sleep(0)
    with pytest.raises(NotHandedOverError, match="already"):
        handing.check()
    theirs.close()
    with pytest.raises(NotHandedOverError):
        await first
    handing.check()
    handing._estate.former.nurses = dict.fromkeys(range(module.NURSES))
    with pytest.raises(NotHandedOverError, match="former versions"):
        handing.check()


async def test_a_program_that_says_why(handing, monkeypatch):
    """The last words of a new version that fails before it takes over are the reason."""
    code = "import sys; print('first', file=sys.stderr); sys.exit('the engine is missing')"
    monkeypatch.setattr(spawning, "arguments", lambda: [sys.executable, "-c", code])
    with pytest.raises(NotHandedOverError, match="exit status 1: the engine is missing"):
        await handing.spawn(lambda _: None)
    assert handing.spawned is None


async def test_a_program_that_is_not_there(handing, estate, monkeypatch):
    """A new version whose interpreter is gone is told by its path, and nothing was stopped."""
    monkeypatch.setattr(spawning, "arguments", lambda: ["/nonexistent/python"])
    with pytest.raises(NotHandedOverError, match="/nonexistent/python: No such file"):
        await handing.spawn(lambda _: None)
    assert estate.calls == []


async def test_a_bug_while_things_are_stopped(handing, estate):
    """R12: if stopping fails in the middle, or is given up, all that had been stopped goes on."""
    estate.state.fails = 2
    with pytest.raises(RuntimeError, match="a bug"):
        await played(handing, (protocol.State, protocol.Ready(7)))
    assert [one for one in estate.calls if one in UNDONE] == UNDONE
    estate.calls.clear()
    estate.state.fails = 0
    ours, theirs = channel.pair()
    giving = asyncio.create_task(handing.give(ours, lambda _: None))
    theirs.send(b"J" + protocol.encode(protocol.Ready(7)))
    async with asyncio.timeout(5):
        while "redundancy abandon" not in estate.calls:  # noqa: ASYNC110 - a list announces no change
            await asyncio.sleep(0)
    giving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await giving
    assert [one for one in estate.calls if one in UNDONE] == UNDONE
    assert not handing.busy
    theirs.close()


async def test_the_first_process_of_a_container(handing, estate):
    """A daemon with whose end a container would end does not hand over to a process that it starts."""
    estate.pid = 1
    with pytest.raises(NotHandedOverError, match="restart that"):
        await handing.spawn(lambda _: None)
    assert (estate.calls, handing.busy) == ([], False)
