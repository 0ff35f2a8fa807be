"""proxy.succession.former_workers: the workers of former daemons count until they are gone."""
# ruff: noqa: D101, D102 - the bed needs no words

import os
import socket
import time

import pytest

from proxy.processes import channel
from proxy.records.timeline import Timeline
from proxy.relay.dns import journal
from proxy.stats import sealed
from proxy.stats.columns import Columns
from proxy.stats.layout import BACKEND_ACTIVE, BACKEND_TOTAL, HEARTBEAT, Layout
from proxy.stats.slots import Slots
from proxy.stats.table import Table, TableError
from proxy.stats.translation import Shape
from proxy.succession import protocol
from proxy.succession.document import FormerRow
from proxy.succession.former_workers import HOLDER, SILENCE, FormerWorkers
from proxy.succession.link import Link
from proxy.workers.listeners import Listeners

SMALL, LARGE = Layout(2, 4), Layout(4, 8)
NURSE = 4711


class Running:
    def __init__(self):
        self.slots = Slots(4), Slots(8)
        self.slots[0].restore([("dns", 0, True)], HOLDER)
        self.slots[1].restore([(("dns", "a"), 1, True), (("dns", "gone"), 2, False)], HOLDER)


class Workers:
    def __init__(self):
        self.introduced, self.journals, self.adopted = 0, [], []

    def introduce(self):
        self.introduced += 1

    def leave_behind(self, fd):
        self.journals.append(fd)
        os.close(fd)

    def adopt(self, listeners, rows, fds):
        self.adopted += rows


class Bed:
    """A daemon with one worker of a former one, which has the layout `before` and a connection open."""

    def __init__(self, before=SMALL, now=SMALL, nurse=NURSE):
        self.running, self.workers = Running(), Workers()
        self.columns, self.timeline = Columns(now), Timeline()
        self.former = FormerWorkers(self.running, self.columns, self.workers, Listeners(), self.timeline)
        self.table = Table.create(before)
        self.table.cells[before.backend(1) + BACKEND_TOTAL] = 5
        self.table.cells[before.backend(1) + BACKEND_ACTIVE] = 1
        self.table.cells[HEARTBEAT] = time.monotonic_ns()
        self.total, self.active = (now.backend(1) + cell for cell in (BACKEND_TOTAL, BACKEND_ACTIVE))
        sums = [0] * before.counted
        sums[before.backend(1) + BACKEND_TOTAL] = 100
        base = sealed.zeroed("base", 8 * before.counted)
        os.pwrite(base, b"".join(one.to_bytes(8, "little") for one in sums), 0)
        self.given = {"column-3": os.dup(self.table.fd), "journal-3": journal.create()}
        self.row = FormerRow(life=3, index=0, pid=99, nurse=nurse)
        self.former.attach(Shape.of(before), base, [self.row], lambda name: self.given.pop(name, -1))

    def nurse(self):
        """Let a nurse report; return its end."""
        ours, theirs = channel.pair()
        self.former.nursed(NURSE, Link(ours))
        return theirs

    def close(self):
        self.former.close()
        self.columns.close()
        self.table.close()
        for fd in self.given.values():
            os.close(fd)


@pytest.fixture(params=[(SMALL, SMALL), (SMALL, LARGE)], ids=["same layout", "larger layout"])
async def bed(request):
    made = Bed(*request.param)
    yield made
    made.close()


async def settle():
    import asyncio

    for _ in range(5):
        await asyncio.sleep(0.01)


def say(sock, message):
    sock.send(b"J" + protocol.encode(message))


async def test_counters_go_on(bed):
    """R8: what the former worker counts is in the sums, what is open there too, and all counters but the gauges stay at its end."""
    assert (bed.columns.sum(bed.total), bed.columns.sum(bed.active)) == (105, 1)
    bed.table.cells[bed.table.layout.backend(1) + BACKEND_TOTAL] = 9
    bed.former.look()
    assert bed.columns.sum(bed.total) == 109
    bed.table.cells[bed.table.layout.backend(1) + BACKEND_TOTAL] = 11
    with bed.nurse() as nurse:
        say(nurse, protocol.Gone(3))
        await settle()
    assert (bed.columns.sum(bed.total), bed.columns.sum(bed.active), len(bed.former)) == (111, 0, 0)
    assert len(bed.workers.journals) == 1
    assert bed.workers.introduced == 2


async def test_slots_are_held_until_it_is_gone(bed):
    """A slot that only the former worker uses has no new owner before that worker is gone."""
    backends = bed.running.slots[1]
    assert backends.assign([("dns", "a"), ("dns", "b"), ("dns", "c")]) != [2]
    assert 2 in {slot for _, slot, _ in backends.rows()}
    with bed.nurse() as nurse:
        say(nurse, protocol.Gone(3))
        await settle()
    assert 2 not in {slot for _, slot, _ in backends.rows()}


async def test_a_nurse_that_dies(bed):
    """With its nurse a former worker is gone, and the timeline says so."""
    nurse = bed.nurse()
    nurse.close()
    await settle()
    assert (len(bed.former), bed.columns.sum(bed.total)) == (0, 105)
    texts = [one.text for one in bed.timeline.between()]
    assert f"a former worker, pid 99, ended: pid {NURSE}, which looked after it, is gone" in texts
    assert texts[-1] == "the former daemon has ended"


async def test_reports_are_checked(bed):
    """A nurse may report events and sessions; another one's worker, an unknown one and nonsense change nothing."""
    with bed.nurse() as nurse:
        say(nurse, protocol.Gone(4))
        say(nurse, protocol.Told({"at": 1.0, "kind": "worker", "subject": "worker 0", "text": "died"}))
        say(nurse, protocol.Told({"at": "noon"}))
        say(nurse, protocol.Unknown("x"))
        with socket.socket() as sock:
            socket.send_fds(nurse, [b"J" + protocol.encode(protocol.Sessions([["a"]]))], [sock.fileno()])
        await settle()
        assert [one.text for one in bed.timeline.between()] == ["died"]
        assert bed.workers.adopted == [["a"]]
        assert len(bed.former) == 1


async def test_a_predecessor_that_goes_on_after_all(bed):
    """A predecessor that says so is heard."""
    said = []
    bed.former.refused = said.append
    with bed.nurse() as nurse:
        say(nurse, protocol.Refused("too slow"))
        await settle()
    assert said == ["too slow"]


async def test_verdicts_are_passed_on(bed):
    """Verdicts reach the nurse; one that is gone is no error."""
    with bed.nurse() as nurse:
        bed.former.tell([("dns", "a", "down", "ready")])
        await settle()
        nurse.setblocking(False)
        assert protocol.decode(nurse.recv(1000)[1:]) == protocol.Verdicts([["dns", "a", "down", "ready"]])
    bed.former.tell([("dns", "a", "up", "ready")])


async def test_what_a_successor_needs(bed):
    """The columns, journals and nurses' sockets of former workers are there for the next daemon."""
    with bed.nurse():
        assert sorted(bed.former.descriptors()) == ["column-3", "journal-3", f"nurse-{NURSE}"]
        assert bed.former.present() == [bed.row]
        (row,) = bed.former.rows()
        assert (row.pid, row.draining, row.life) == (99, True, 3)


async def test_a_worker_without_a_nurse():
    """A worker that nobody looks after is gone when it has no heartbeat any more."""
    bed = Bed(nurse=0)
    try:
        bed.former.look()
        assert len(bed.former) == 1
        bed.table.cells[HEARTBEAT] = time.monotonic_ns() - int((SILENCE + 1) * 1e9)
        bed.former.look()
        assert (len(bed.former), bed.columns.sum(bed.total)) == (0, 105)
    finally:
        bed.close()


async def test_a_column_that_is_too_short():
    """A column that is shorter than its layout says is refused, and not mapped."""
    bed = Bed()
    try:
        short = sealed.zeroed("stats", 80)
        with pytest.raises(TableError):
            bed.former.attach(
                Shape.of(LARGE),
                sealed.zeroed("base", 8 * LARGE.counted),
                [bed.row.model_copy(update={"life": 5})],
                lambda _: short,
            )
    finally:
        bed.close()


async def test_nurses_stop_with_this_daemon(bed):
    """When this daemon stops, the nurses are told how long what they have open may go on."""
    with bed.nurse() as nurse:
        bed.former.end(7.0)
        await settle()
        nurse.setblocking(False)
        assert protocol.decode(nurse.recv(1000)[1:]) == protocol.Drain(7.0)
