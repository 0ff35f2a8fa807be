"""Tests of the worker process: real ones, with this test as their master."""
# ruff: noqa: ASYNC110, D102 - the bed needs no words; processes are polled for what happened

import asyncio
import os
import socket
import time

import pytest

from proxy import worker
from proxy.processes.child import Child, Identity
from proxy.processes.messages import common as messages
from proxy.processes.messages import worker as worker_messages
from proxy.relay.clients import rates
from proxy.relay.clients.store import Store
from proxy.relay.dns import journal
from proxy.relay.plan import BackendPlan, DnsPlan, Plan, ServicePlan, TcpPlan, UdpPlan, to_tree
from proxy.stats.layout import DRAINING, HEARTBEAT, PID, Layout
from proxy.stats.table import Table

LAYOUT = Layout(16, 64)
SERVICE = ServicePlan(
    slot=0, name="echo", protocol="plain", scheduler="round-robin", hash_on="source", on_down="keep",
    backends=(BackendPlan(0, "b", "127.0.0.1", 9, 1),),
    tcp=TcpPlan(1.0, 60.0, 5.0, 120.0, 30.0), udp=UdpPlan(30.0, 100, "drop-new"), dns=DnsPlan(0.4, 4.5),
)  # fmt: skip


def memory():
    """The shared memory that a worker gets in its setup."""
    store = Store.create()
    fds = [store.again(), rates.create()]
    store.close()
    return fds


class Life:
    """A worker, what it says, and how it died."""

    def __init__(self):
        self.got, self.deaths = [], []
        self.table = Table.create(LAYOUT)
        self.child = Child(
            "proxy.worker", Identity(None, None, "error", "text"), lambda m, fds: self.got.append(m), self.deaths.append
        )

    def begin(self):
        notes = journal.create()
        plan = Plan(generation=3, layout=LAYOUT, max_connections=10, services=(SERVICE,))
        shared = [notes, *memory()]
        self.child.send(worker_messages.Setup(to_tree(plan)), [self.table.fd, *shared])
        for fd in shared:
            os.close(fd)

    async def until(self, condition, seconds=10.0):
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)


@pytest.fixture
async def life():
    one = Life()
    yield one
    one.child.kill()
    await one.until(lambda: one.deaths)
    one.table.close()


async def test_a_life(life):
    """A worker says when it is ready, shows its heartbeat in its column, and leaves with 0 when it has drained."""
    life.begin()
    await life.until(lambda: life.got)
    assert life.got == [messages.Ready(life.child.pid)]
    beat = life.table.cells[HEARTBEAT]
    assert life.table.cells[PID] == life.child.pid
    await life.until(lambda: life.table.cells[HEARTBEAT] > beat, 1)
    life.child.send(worker_messages.Drain(5.0))
    await life.until(lambda: life.deaths)
    assert life.deaths == ["exit status 0"]
    assert life.table.cells[DRAINING] == 1


@pytest.mark.parametrize(
    "order",
    [
        worker_messages.Listen([[0, 0, 99, "udp", "127.0.0.1", 1]]),
        worker_messages.Listen([[0]]),
        worker_messages.Unlisten([[1]]),
    ],
)
async def test_an_order_that_cannot_be_obeyed(life, order):
    """A worker that cannot do what it is told ends loudly, rather than to serve something else than it should."""
    life.begin()
    await life.until(lambda: life.got)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        life.child.send(order, [sock.fileno()] if isinstance(order, worker_messages.Listen) else [])
    await life.until(lambda: life.deaths)
    assert life.deaths == ["exit status 1"]


async def test_a_journal_that_cannot_be_read(life):
    """A dead worker's journal that makes no sense costs its queries, not the heir, which confirms it all the same."""
    life.begin()
    read, write = os.pipe()
    life.child.send(worker_messages.Replay(7), [read])
    os.close(read)
    os.close(write)
    await life.until(lambda: any(isinstance(one, worker_messages.Replayed) for one in life.got))
    (replayed,) = (one for one in life.got if isinstance(one, worker_messages.Replayed))
    assert (replayed.number, replayed.queries) == (7, 0)
    assert not life.deaths


async def test_many_verdicts(monkeypatch):
    """Thousands of verdicts at once are applied in slices, the last of each backend, between which the traffic has its turn."""
    table = Table.create(LAYOUT)
    notes = journal.create()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    plan = Plan(generation=3, layout=LAYOUT, max_connections=10, services=(SERVICE,))
    one = worker.Worker(theirs, worker_messages.Setup(to_tree(plan)), [os.dup(table.fd), notes, *memory()])
    applied = []

    def apply(changes):
        time.sleep(0.002)
        applied.append(changes)

    monkeypatch.setattr(one._engine, "apply", apply)
    for verdict in ("down", "up"):
        one._on_message(
            worker_messages.Verdicts([[at, backend, verdict, "ready"] for at in range(100) for backend in (0, 1)]), []
        )
    turns = 0
    while one._verdicts:
        await asyncio.sleep(0)
        turns += 1
    assert applied == [[(at, 0, "up", "ready"), (at, 1, "up", "ready")] for at in range(100)]
    assert turns > 15
    one._on_message(worker_messages.Verdicts([[at, 0, "down", "ready"] for at in range(10)]), [])
    one._on_message(worker_messages.Listen([]), [])
    assert len(applied) == 110  # before anything is polled, all of them
    one.close()
    ours.close()
    table.close()


async def test_no_setup(life):
    """A worker whose master is gone before its first order leaves in silence."""
    life.child.channel.close()
    await life.until(lambda: life.deaths)
    assert life.deaths == ["exit status 0"]
