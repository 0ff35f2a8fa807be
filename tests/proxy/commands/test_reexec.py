"""The commands `reexec` and `take-over`."""

import os

import pytest

from proxy.commands.reexec import register_succession
from proxy.control.server import ControlServer, Handed, Request
from proxy.control.wire import ControlError
from proxy.succession.handing_over import NotHandedOverError


class Bed:
    """The handlers, and a daemon that does as it is told: it hands over, or raises."""

    def __init__(self, path):
        self.outcome = 4711
        control = ControlServer(path)
        register_succession(control, self.reexec, self.give)
        self.commands = control._commands

    async def reexec(self, step):
        """Hand over."""
        step("one")
        step("two")
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def give(self):
        """Give the place away."""
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return "a socket"

    async def lines(self):
        """Return the answer to `reexec`."""
        return [line async for line in self.commands["reexec"].handler(Request("reexec", {}, 1, 0))]


@pytest.fixture
async def bed(tmp_path):
    return Bed(tmp_path / "control.sock")


async def test_each_step_is_told(bed):
    """`reexec` tells each step as it is done, and at the end the new process."""
    assert await bed.lines() == [
        {"step": "one", "more": True},
        {"step": "two", "more": True},
        {"pid": 4711, "changed": True, "more": False},
    ]


@pytest.mark.parametrize(("code", "word"), [(1, "failed"), (2, "bad-config")])
async def test_a_failure_is_an_error(bed, code, word):
    """A reexec that fails is an error with the reason; a wrong file is told apart."""
    bed.outcome = NotHandedOverError("no room", code)
    with pytest.raises(ControlError, match="no room") as caught:
        await bed.lines()
    assert caught.value.code == word


async def test_a_place_is_given_away(bed):
    """`take-over` answers with the process and a socket, or with the reason why not."""
    handler = bed.commands["take-over"].handler
    assert handler(Request("take-over", {}, 1, 0)) == Handed({"pid": os.getpid()}, "a socket")
    bed.outcome = NotHandedOverError("it goes on")
    with pytest.raises(ControlError, match="it goes on"):
        handler(Request("take-over", {}, 1, 0))


async def test_both_are_for_the_administrator(bed):
    """Who may only read can neither replace the daemon nor take its place."""
    assert bed.commands["reexec"].mutates
    assert bed.commands["take-over"].mutates
