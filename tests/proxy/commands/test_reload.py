"""The command `reload`: what it answers."""

import asyncio

import pytest

from proxy.backends.errors import BusyError, FailedError, RefusedError
from proxy.commands.reload import ROWS, ReloadCommand
from proxy.config.changes import Step
from proxy.config.diagnostics import ConfigError, Diagnostic
from proxy.control.server import Request
from proxy.control.wire import BAD_CONFIG, BAD_REQUEST, FAILED, ControlError
from proxy.reload import Outcome
from proxy.reload_queue import ReloadQueue

STEPS = [Step("add", "backend", f"a/192.0.2.{number}", "a") for number in range(ROWS + 1)]


class Bed:
    """A command whose reloads raise `error`, or end with STEPS."""

    def __init__(self):
        self.error = None
        self.ran = []
        self.command = ReloadCommand(ReloadQueue(self.run, lambda _: None), self.plan)

    async def run(self, strict):
        """Do a reload."""
        self.ran.append(strict)
        if self.error is not None:
            raise self.error
        return Outcome(STEPS, 7, ["a worker has not followed"])

    async def plan(self):
        """Return the steps of a reload."""
        if self.error is not None:
            raise self.error
        return STEPS

    async def ask(self, **arguments):
        """Return the lines of an answer."""
        return [line async for line in self.command.reload(Request("reload", arguments, 1, 0))]


@pytest.fixture
def bed():
    return Bed()


async def test_the_answer_has_every_step(bed):
    """The answer says when it is done: first its turn, then all steps in lines of bounded length, then the outcome."""
    first, *rows, last = await bed.ask(strict=True)
    assert (first["turn"], bed.ran) == ("now", [True])
    assert [len(line["steps"]) for line in rows] == [ROWS, 1]
    assert [row for line in rows for row in line["steps"]] == [step.row() for step in STEPS]
    assert all(line["more"] for line in (first, *rows))
    outcome = (last["changed"], last["generation"], last["faults"], last["more"])
    assert outcome == (True, 7, ["a worker has not followed"], False)


async def test_a_dry_run_does_nothing(bed):
    """R1: with `dry` the steps are told and none is done."""
    *rows, last = await bed.ask(dry=True)
    assert [row for line in rows for row in line["steps"]] == [step.row() for step in STEPS]
    assert (last, bed.ran) == ({"changed": False, "more": False}, [])


@pytest.mark.parametrize("dry", [False, True])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError([Diagnostic("error", "f.toml", 3, 4, "unknown key")]), BAD_CONFIG),
        (RefusedError("no such file"), BAD_CONFIG),
        (FailedError("already in use"), FAILED),
        (BusyError("the daemon is stopping"), FAILED),
    ],
)
async def test_refusals(bed, error, code, dry):
    """R1: a wrong file is an error of its own kind, with each mistake's place; what only trying shows is another."""
    bed.error = error
    with pytest.raises(ControlError) as caught:
        await bed.ask(dry=dry)
    assert (caught.value.code, str(caught.value)) == (code, str(error))
    if isinstance(error, ConfigError):
        (row,) = caught.value.details["diagnostics"]
        assert (row["file"], row["line"], row["col"]) == ("f.toml", 3, 4)


async def test_wrong_arguments(bed):
    """R7: an argument that is not true or false is refused, and nothing is done."""
    with pytest.raises(ControlError) as caught:
        await bed.ask(strict="yes")
    assert (caught.value.code, bed.ran) == (BAD_REQUEST, [])


async def test_a_client_that_leaves_ends_no_reload(bed):
    """A reload goes on when the client that asked for it has left."""
    go, done = asyncio.Event(), asyncio.Event()

    async def run(strict):
        await go.wait()
        done.set()
        return Outcome([], 1, [])

    bed.command = ReloadCommand(ReloadQueue(run, lambda _: None), bed.plan)
    lines = bed.command.reload(Request("reload", {}, 1, 0))
    await anext(lines)
    waiting = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    go.set()
    async with asyncio.timeout(5):
        await done.wait()
