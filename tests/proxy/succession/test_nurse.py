"""proxy.succession.nurse: what is left of a daemon reports its workers, obeys verdicts, and ends."""
# ruff: noqa: D101, D102 - the bed needs no words

import asyncio
import math

import pytest

from proxy.processes import channel
from proxy.processes.messages import worker as worker_messages
from proxy.records.timeline import Event
from proxy.stats.slots import Slots
from proxy.succession import nurse as module
from proxy.succession import protocol
from proxy.succession.link import Link
from proxy.succession.nurse import Nurse


class Place:
    def __init__(self, life):
        self.life = life


class Workers:
    def __init__(self):
        self.places, self.calls = [Place(1), Place(2)], []
        self.on_sessions = None

    def present(self):
        return self.places

    def close_listeners(self, listeners):
        self.calls.append(("close", set(listeners)))

    def drain(self, timeout, *, hand_over):
        self.calls.append(("drain", timeout, hand_over))

    def tell(self, message):
        self.calls.append(message)


class Running:
    slots = Slots(2), Slots(4)
    slots[0].assign(["dns"])
    slots[1].assign([("dns", "a"), ("dns", "b")])


class Bed:
    def __init__(self):
        ours, self.other = channel.pair()
        self.other.setblocking(False)
        self.workers, self.over = Workers(), []
        self.nurse = Nurse(Link(ours), Running(), self.workers, lambda: self.over.append(True))

    def heard(self):
        """Return what the successor has got."""
        found = []
        while True:
            try:
                found.append(protocol.decode(self.other.recv(65536)[1:]))
            except BlockingIOError:
                return found


@pytest.fixture
async def bed():
    made = Bed()
    yield made
    made.nurse.close()
    made.other.close()


async def test_workers_finish_what_is_open(bed):
    """R6: the workers serve what waits in listeners that nobody polls any more, and hand the rest over."""
    bed.nurse.begin(3600.0, {4})
    assert bed.workers.calls == [("close", {4}), ("drain", 3600.0, True)]


async def test_each_end_is_reported_once(bed):
    """A worker that is gone is reported, once."""
    bed.nurse.begin(math.inf, ())
    bed.workers.places.pop(0)
    bed.nurse.look()
    bed.nurse.look()
    assert bed.heard() == [protocol.Gone(1)]


async def test_it_ends_at_its_deadline(bed, monkeypatch):
    """When the time is over the nurse ends, whatever its workers do; without an end it waits for them."""
    monkeypatch.setattr(module, "GRACE", 0.01)
    bed.nurse.begin(0.01, ())
    await asyncio.sleep(0.05)
    assert bed.over == [True]


async def test_it_is_hurried(bed, monkeypatch):
    """A nurse that is told to end cuts what is open and ends soon."""
    monkeypatch.setattr(module, "GRACE", 0.01)
    bed.nurse.begin(math.inf, ())
    bed.nurse.hurry()
    await asyncio.sleep(0.05)
    assert (bed.workers.calls[-1], bed.over) == (("drain", 0.0, True), [True])


async def test_verdicts_reach_the_workers(bed):
    """Verdicts on backends that the workers know reach them; unknown backends, words and rows are left out."""
    bed.nurse.begin(math.inf, ())
    rows = [
        ["dns", "b", "down", "ready"], ["dns", "new", "down", "ready"], ["web", "b", "down", "ready"],
        ["dns", "a", "sleepy", "ready"], ["dns", "a", "up", "perhaps"], ["dns", "a"], "dns", [1, 2, 3, 4],
    ]  # fmt: skip
    bed.other.send(b"J" + protocol.encode(protocol.Verdicts(rows)))
    await asyncio.sleep(0.02)
    assert bed.workers.calls[-1] == worker_messages.Verdicts([[0, 1, "down", "ready"]])


async def test_events_and_sessions_are_passed_on(bed):
    """Events and UDP sessions go to the successor; without one an event stays here, and the nurse goes on."""
    bed.nurse.begin(math.inf, ())
    assert bed.nurse.forward(Event(1.0, "worker", "worker 0", "died"))
    bed.workers.on_sessions(worker_messages.Sessions([["x"]], True), [])
    assert [type(one).__name__ for one in bed.heard()] == ["Told", "Sessions"]
    bed.other.close()
    await asyncio.sleep(0.02)
    assert not bed.nurse.forward(Event(1.0, "worker", "worker 0", "died"))
    bed.nurse.look()
    assert bed.over == []


async def test_it_stops_with_its_successor(bed):
    """When the successor stops, what is still open here goes on no longer than there; nonsense changes nothing."""
    bed.nurse.begin(math.inf, ())
    for data in (
        protocol.encode(protocol.Drain(5.0)),
        b'{"kind": "Drain", "timeout": -1}',
        b'{"kind": "Drain", "timeout": 2}',
    ):
        bed.other.send(b"J" + data)
    await asyncio.sleep(0.02)
    assert bed.workers.calls[2:] == [("drain", 5.0, True), ("drain", 2.0, True)]
