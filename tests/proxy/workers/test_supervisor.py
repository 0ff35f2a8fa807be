"""Tests of the supervision of workers, with real workers and a master that is none."""
# ruff: noqa: ASYNC110, D101, D102, PTH208 - the bed needs no words; processes are polled for what happened

import asyncio
import os
import signal
import time

import pytest

from proxy.processes import child, codec
from proxy.processes.child import Identity
from proxy.processes.messages import worker as worker_messages
from proxy.relay.clients import rates
from proxy.relay.clients.store import Store
from proxy.relay.dns import journal
from proxy.relay.plan import Member, Plan, to_tree
from proxy.stats.columns import Columns
from proxy.stats.layout import BACKEND_ACTIVE, BACKEND_TOTAL, MEMBERS, Layout
from proxy.workers.place import Place
from proxy.workers.supervisor import Supervisor

LAYOUT = Layout(16, 64)
SETUP = codec.encode(worker_messages.Setup(to_tree(Plan(generation=1, layout=LAYOUT, max_connections=10, services=()))))


class Master:
    """A master to which the supervisor reports, and what it gives to workers."""

    def __init__(self):
        self.columns = Columns(LAYOUT)
        self.open_listeners = ()
        self.log_fd = -1
        self.events = []
        self.left = False

    def shared(self):
        store = Store.create()
        fds = [store.again(), rates.create()]
        store.close()
        return fds

    def setup(self):
        return SETUP

    def verdicts(self):
        return worker_messages.Verdicts([])

    def weights(self):
        return worker_messages.Weights([])

    def told(self, subject, text, **fields):
        self.events.append((subject, text))

    def heard(self, life, message):
        """Not of interest here."""

    def hold(self, life):
        """Not of interest here."""

    def release(self, life):
        """Not of interest here."""

    def workers_changed(self):
        pass

    def workers_gone(self):
        self.left = True


class Bed:
    def __init__(self, workers):
        self.master = Master()
        self.supervisor = Supervisor(self.master, self.master, workers, Identity(None, None, "error", "text"))
        self.supervisor.start()

    async def until(self, condition, seconds=20.0):
        async with asyncio.timeout(seconds):
            while not condition():
                self.supervisor.look(time.monotonic())
                await asyncio.sleep(0.01)

    async def ready(self):
        await self.until(lambda: all(row.alive for row in self.supervisor.rows()))

    @property
    def pids(self):
        return [row.pid for row in self.supervisor.rows()]


@pytest.fixture
async def bed():
    beds = []

    def make(workers):
        beds.append(Bed(workers))
        return beds[0]

    yield make
    for one in beds:
        await one.supervisor.end(3)
        assert all(pid is None for pid in one.pids)
        one.master.columns.close()


async def test_twenty_deaths_leak_nothing(bed, monkeypatch):
    """Twenty deaths, most while the worker still starts, leave the master with the descriptors that it had before."""
    monkeypatch.setattr(child, "LONGEST_PAUSE", 0.0)
    one = bed(2)
    await one.ready()
    before = len(os.listdir("/proc/self/fd"))
    for death in range(20):
        await one.until(lambda: one.pids[0])
        if death % 5 == 0:
            await one.ready()
        os.kill(one.pids[0], signal.SIGKILL)
        await one.until(lambda death=death: one.supervisor.rows()[0].restarts == death + 1)
    await one.ready()
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(one.master.columns.live) == 2


async def test_counters_are_folded_and_gauges_dropped(bed):
    """A dead worker's counters stay in the sums, its gauges do not."""
    one = bed(1)
    await one.ready()
    life = one.supervisor.rows()[0].life
    cells, base = one.master.columns.live[life].cells, LAYOUT.backend(3)
    cells[base + BACKEND_ACTIVE], cells[base + BACKEND_TOTAL] = 5, 7
    os.kill(one.pids[0], signal.SIGKILL)
    await one.until(lambda: one.supervisor.rows()[0].restarts)
    assert one.master.columns.sum(base + BACKEND_TOTAL) == 7
    assert one.master.columns.sum(base + BACKEND_ACTIVE) == 0


async def test_a_journal_finds_an_heir_that_lives(bed, monkeypatch):
    """What a dead worker had in flight is handed on once, and again only if the heir died before it had confirmed."""
    one = bed(3)
    await one.ready()
    workers = one.supervisor._places
    kept = journal.Journal(workers[0].journal)
    kept.note(9, ("192.0.2.1", 53), b"query")
    kept.close()
    sent = []
    for worker in workers:
        monkeypatch.setattr(worker.child, "send", wrapped(sent, worker))
    os.kill(workers[1].child.pid, signal.SIGSTOP)  # the heir will not confirm
    monkeypatch.setattr(Place, "able", property(lambda self: self.index != 0 and self.child is not None))
    os.kill(workers[0].child.pid, signal.SIGKILL)
    await one.until(lambda: sent == [1])
    assert one.supervisor._inheritance.waits_for(workers[1]) == [1]
    await asyncio.sleep(0.1)
    assert sent == [1]
    os.kill(workers[1].child.pid, signal.SIGKILL)
    await one.until(lambda: sent == [1, 2])
    await one.until(lambda: not one.supervisor._inheritance.waits_for(workers[2]))
    assert sent == [1, 2]


def wrapped(sent, worker):
    send = worker.child.send

    def spy(message, fds=()):
        if isinstance(message, worker_messages.Replay):
            sent.append(worker.index)
        send(message, fds)

    return spy


async def test_a_worker_knows_the_others_before_it_polls(bed, monkeypatch):
    """T21: a worker that was restarted sees what the others have taken of the host's limits before it gets a listener."""
    one = bed(2)
    await one.ready()
    sent = []
    send = child.Child.send

    def spy(self, message, fds=()):
        sent.append((self.pid, type(message)))
        if not isinstance(message, worker_messages.Listen):  # of a service that this plan does not have
            send(self, message, fds)

    monkeypatch.setattr(child.Child, "send", spy)
    monkeypatch.setattr(one.master, "open_listeners", (0,))
    monkeypatch.setattr(one.master, "member", lambda key: (Member(*key, 0, "tcp", "127.0.0.1", 1), 0), raising=False)
    one.supervisor.members.add(0)
    os.kill(one.pids[0], signal.SIGKILL)
    await one.until(lambda: one.supervisor.rows()[0].restarts)
    await one.ready()
    kinds = [kind for pid, kind in sent if pid == one.pids[0]]
    assert worker_messages.Listen in kinds
    assert worker_messages.Siblings in kinds[: kinds.index(worker_messages.Listen)]


async def test_one_that_never_gets_ready(bed, monkeypatch):
    """A worker that does not get ready in time is killed and started again, and has more time from then on."""
    monkeypatch.setattr(child, "START", 0.05)
    one = bed(1)
    first = one.pids[0]
    os.kill(first, signal.SIGSTOP)
    await one.until(lambda: one.supervisor.rows()[0].restarts)
    assert "not ready 0.05 s after its start: killed" in one.master.events[0][1]
    await one.ready()


async def test_a_start_that_fails_is_tried_again(bed, monkeypatch):
    """Out of memory or descriptors, a worker's start is told, leaves nothing behind, and is tried again."""
    real = journal.create
    failures = [OSError(24, "Too many open files")] * 2

    def create():
        if failures:
            raise failures.pop()
        return real()

    monkeypatch.setattr(journal, "create", create)
    one = bed(1)
    await one.ready()
    assert [text for _, text in one.master.events] == ["cannot be started: [Errno 24] Too many open files"] * 2


async def test_a_place_that_nobody_fills(bed, monkeypatch):
    """A look repairs what an unexpected exception left undone: a place without a worker gets one."""
    one = bed(1)
    await one.ready()
    real = one.supervisor._start
    monkeypatch.setattr(one.supervisor, "_start", lambda worker: 1 / 0)
    faults = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context["exception"]))
    os.kill(one.pids[0], signal.SIGKILL)
    async with asyncio.timeout(5):
        while not faults:
            await asyncio.sleep(0.01)
    assert isinstance(faults[0], ZeroDivisionError)
    monkeypatch.setattr(one.supervisor, "_start", real)
    await one.ready()


async def test_a_drain(bed):
    """Drained, the workers leave, none is started anew, and the master learns of it."""
    one = bed(2)
    await one.ready()
    one.supervisor.drain(5.0)
    async with asyncio.timeout(5):
        while not one.master.left:
            await asyncio.sleep(0.01)
    assert one.pids == [None, None]


async def test_no_worker_is_started_while_a_successor_counts_on_them(bed):
    """R12: a worker that dies while a successor starts is not replaced; if the successor fails, it is."""
    one = bed(2)
    await one.ready()
    one.supervisor.freeze()
    os.kill(one.pids[0], signal.SIGKILL)
    await one.until(lambda: len(one.supervisor.present()) == 1)
    await asyncio.sleep(0.2)
    one.supervisor.look(time.monotonic())
    assert (len(one.supervisor.present()), one.supervisor.complete, one.supervisor.lives) == (1, False, 2)
    one.supervisor.thaw()
    await one.until(lambda: one.supervisor.complete)
    assert one.supervisor.lives == 3


async def test_a_generation_is_had_when_removed_listeners_are_closed(bed):
    """R6: a generation is in force when each worker has it, and polls no listener beside those that it is to poll."""
    one = bed(1)
    await one.ready()
    (row,) = one.supervisor.rows()
    cells = one.master.columns.live[row.life].cells
    await one.until(lambda: one.supervisor.have(1))
    assert not one.supervisor.have(2)
    cells[MEMBERS] = 1
    assert not one.supervisor.have(1)
    cells[MEMBERS] = 0
    assert one.supervisor.have(1)
