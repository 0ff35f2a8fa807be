"""Tests of the notify child's side of the channel."""

import asyncio
import socket

import pytest

from proxy import notifyd
from proxy.notifyd import Notifying
from proxy.processes import channel, codec
from proxy.processes.messages import common as messages
from proxy.processes.messages import notify as notify_messages


class Bed:
    """The child in this process, and the master's end of its channel."""

    def __init__(self, directory):
        self.directory = directory
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.setblocking(False)
        self.got = []
        self.notifying = Notifying(theirs)

    def send(self, message):
        """Give an order."""
        self.sock.send(b"J" + codec.encode(message))

    def read(self):
        """Return all messages so far."""
        while True:
            try:
                self.got.append(channel.receive(self.sock)[0])
            except (BlockingIOError, channel.ChannelError, EOFError, OSError):
                return self.got

    def script(self, name, body):
        """Return the row of a notification that runs a script."""
        path = self.directory / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return {"name": name, "command": [str(path)], "fifo": None, "batch": False}

    async def until(self, condition):
        """Wait until a condition holds."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - threads and scripts tell nobody of a change
                await asyncio.sleep(0.01)

    def counters(self, name):
        """Return the newest counters of a notification."""
        found = [one.counters for one in self.read() if isinstance(one, notify_messages.Counted)]
        return found[-1].get(name, {}) if found else {}


@pytest.fixture
async def bed(tmp_path, monkeypatch):
    """Make a child that reports often."""
    monkeypatch.setattr(notifyd, "BEAT", 0.02)
    monkeypatch.setattr(notifyd, "COUNT", 0.02)
    monkeypatch.setattr(notifyd, "trusted", lambda path, _: path)  # the directory belongs to the test
    made = Bed(tmp_path)
    yield made
    made.notifying.close()
    made.sock.close()


def move(name="dns/a", state="DOWN"):
    """Return a change."""
    return ["BACKEND", name, state, "1", "no answer"]


async def test_it_tells_and_counts(bed):
    """A change runs the program with its words, and is counted; the child shows that it lives."""
    bed.send(notify_messages.Notifies([bed.script("page", f'echo "$@" >> {bed.directory}/out')]))
    bed.send(notify_messages.Changes({"page": [move(), move("dns/b")], "unknown": [move()]}))
    await bed.until(lambda: bed.counters("page").get("passed") == 2)
    assert (bed.directory / "out").read_text().splitlines() == [
        "BACKEND dns/a DOWN 1 no answer",
        "BACKEND dns/b DOWN 1 no answer",
    ]
    assert isinstance(bed.read()[0], messages.Ready)
    assert bed.read().count(messages.Beat()) >= 1


async def test_what_fails_is_reported(bed):
    """A program that fails is reported by the name of its notification, with the reason."""
    bed.send(notify_messages.Notifies([bed.script("page", "echo no >&2; exit 1")]))
    bed.send(notify_messages.Changes({"page": [move()]}))
    await bed.until(lambda: any(isinstance(one, notify_messages.Trouble) for one in bed.read()))
    (trouble,) = [one for one in bed.read() if isinstance(one, notify_messages.Trouble)]
    assert (trouble.name, trouble.text.rpartition("/")[2]) == ("page", "page ended with 1: no")


async def test_a_program_that_stays_keeps_its_queue(bed):
    """Other notifications leave one that stays alone; one that is gone still passes on what waits, and is counted."""
    slow = bed.script("slow", f"sleep 0.2; echo $2 >> {bed.directory}/out")
    bed.send(notify_messages.Notifies([slow]))
    bed.send(notify_messages.Changes({"slow": [move("a"), move("b")]}))
    bed.send(notify_messages.Notifies([slow, bed.script("page", "true")]))
    bed.send(notify_messages.Changes({"slow": [move("c")]}))
    bed.send(notify_messages.Notifies([]))
    await bed.until(lambda: bed.counters("slow").get("passed") == 3)
    assert (bed.directory / "out").read_text().split() == ["a", "b", "c"]
    bed.send(notify_messages.Notifies([slow]))
    bed.send(notify_messages.Changes({"slow": [move("d")]}))
    await bed.until(lambda: bed.counters("slow").get("passed") == 4)


async def test_it_finishes(bed):
    """At the end what waits is passed on first; a second word ends what hangs."""
    bed.send(notify_messages.Notifies([bed.script("page", f"sleep 0.2; echo $2 >> {bed.directory}/out")]))
    bed.send(notify_messages.Changes({"page": [move("a"), move("b")]}))
    bed.send(notify_messages.Finish(10.0))
    await asyncio.wait_for(bed.notifying.done.wait(), 10)
    assert (bed.directory / "out").read_text().split() == ["a", "b"]


async def test_it_can_be_hurried(bed):
    """A second word to finish ends a program that hangs."""
    bed.send(notify_messages.Notifies([bed.script("page", f"touch {bed.directory}/begun; sleep 60")]))
    bed.send(notify_messages.Changes({"page": [move()]}))
    await bed.until((bed.directory / "begun").exists)
    bed.send(notify_messages.Finish(60.0))
    bed.send(notify_messages.Finish(0.0))
    await asyncio.wait_for(bed.notifying.done.wait(), 10)


async def test_it_ends_with_the_master(bed):
    """A child whose master is gone ends soon."""
    bed.sock.close()
    await asyncio.wait_for(bed.notifying.done.wait(), 10)


async def test_what_cannot_be_obeyed_ends_it(bed):
    """An order that makes no sense ends the process with an error: a successor may do better."""
    bed.send(notify_messages.Notifies([{"name": "page"}]))
    await asyncio.wait_for(bed.notifying.done.wait(), 10)
    assert bed.notifying.failed
