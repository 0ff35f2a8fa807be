"""What the master makes of workers on whose word a backend is left out."""

import asyncio

import pytest

from proxy.backends.admin import Admins
from proxy.backends.effective import Running
from proxy.backends.readiness import Readiness
from proxy.backends.saved import SAVED, SavedActs
from proxy.config.loader import load
from proxy.processes.messages import health as health_messages
from proxy.processes.messages import worker as worker_messages
from proxy.records.disk_thread import DiskThread
from proxy.records.document import Document
from proxy.stats.slots import Slots
from proxy.status.slices import finished

FILE = """
[node]
name = "n"
workers = 1
[service.a]
listen = ["127.0.0.1:80/tcp"]
backends = ["192.0.2.1", "192.0.2.2"]
eject = { errors = 3, time = "0.1s" }
"""
FIRST = ("a", "192.0.2.1")


class Bed:
    """A service of two backends, both up."""

    def __init__(self, path):
        path.write_text(FILE)
        running = Running(load(path), Slots(16), Slots(64))
        self.told, self.sent, self.times = [], [], []
        self.admins = Admins(
            running,
            SavedActs(Document(DiskThread("disk"), path.parent, SAVED), self.tell),
            self.tell,
            lambda _: None,
            lambda _: 0,
        )
        self.ready = Readiness(running, self.tell, self.sent.append, lambda _: None, self.admins)

    def tell(self, kind, subject, text, *, level="info", **fields):
        """Note an event."""
        self.told.append((kind, subject, text))
        self.times.append((kind, fields.get("at")))

    async def probed(self, *states):
        """Let health find these states of the first and the second backend."""
        for number, state in states:
            self.ready.probed(health_messages.Probed(f"a/192.0.2.{number + 1}", state, "answers", 1.0))
        await asyncio.sleep(0)

    def failing(self, backend=0):
        """Let a worker say that a backend fails."""
        self.ready.failing(worker_messages.Failing(0, backend, 3, 1.0))

    def said(self, backend=0):
        """The verdicts that workers got of a backend, and what one that starts now would get."""
        rows = [row for message in [*self.sent, self.ready.verdicts()] for row in getattr(message, "changes", [])]
        return [row[2] for row in rows if len(row) == 4 and row[1] == backend]

    @property
    def events(self):
        """What was told of ejections."""
        return [text for kind, _, text in self.told if kind == "eject"]


@pytest.fixture
async def bed(tmp_path):
    one = Bed(tmp_path / "steelyard.toml")
    await one.probed((0, "up"), (1, "up"))
    return one


async def test_an_ejection_has_an_end(bed):
    """H12, H13: all workers learn who is out, status and events say why, and it comes back by itself, told again."""
    bed.failing()
    await asyncio.sleep(0)
    assert bed.said() == ["up", "ejected", "ejected"]
    shown = finished(bed.ready.shown({}))[FIRST]
    assert (shown.state, shown.reason) == (
        "down",
        "ejected for 100ms: 3 failures of real traffic in a row (probes: answers)",
    )
    assert bed.ready.able["a"]
    assert bed.times[-1] == ("eject", 1.0)  # the worker's
    await asyncio.sleep(0.2)
    assert bed.sent[-1] == worker_messages.Verdicts([[0, 0, "up", "ready"]])
    assert finished(bed.ready.shown({}))[FIRST].state == "up"
    assert bed.events == [
        "ejected for 100ms: 3 failures of real traffic in a row",
        "no longer ejected: the time is over",
    ]


async def test_a_probe_does_not_end_it(bed):
    """H12: a backend whose probes pass anew stays out for its time."""
    bed.failing()
    await bed.probed((0, "down"), (0, "up"))
    assert bed.said()[-1] == "ejected"


async def test_the_last_stays(bed):
    """H12: with one out the other stays, told once; and when it goes down who was out comes back at once."""
    bed.failing(0)
    bed.failing(1)
    bed.failing(1)
    await asyncio.sleep(0)
    assert bed.said(1) == ["up", "up"]
    assert bed.events[1:] == ["not ejected, too few backends would remain: 3 failures of real traffic in a row"]
    await bed.probed((1, "down"))
    assert bed.sent[-1] == worker_messages.Verdicts(
        [[0, 0, "up", "ready"], [0, 1, "down", "ready"]]
    )  # never nobody at all
    assert bed.events[-1] == "no longer ejected: no other backend is left"


async def test_who_is_down_already_is_not_ejected(bed):
    """H12: what still fails on a backend that is down, or was ejected, is no news."""
    await bed.probed((0, "down"))
    bed.failing()
    assert bed.events == []
    await bed.probed((0, "up"))
    bed.failing()
    bed.failing()
    assert len(bed.events) == 1


async def test_an_operator_ends_it(bed):
    """H12, T16: a backend that an operator takes in hand is not ejected any more, and begins anew."""
    bed.failing()
    await asyncio.sleep(0)
    bed.ready.administered([FIRST])
    await asyncio.sleep(0)
    assert bed.said()[-1] == "up"
    assert bed.events[-1] == "no longer ejected: an operator has changed its state"
    bed.failing()
    assert bed.events[-1] == "ejected for 100ms: 3 failures of real traffic in a row"
