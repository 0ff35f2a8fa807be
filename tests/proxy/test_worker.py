"""Tests of the worker process: real ones, with this test as their master."""
# ruff: noqa: ASYNC110, D102 - the bed needs no words; processes are polled for what happened

import asyncio
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from proxy import worker
from proxy.processes.child import Child, Identity
from proxy.processes.messages import common as messages
from proxy.processes.messages import worker as worker_messages
from proxy.relay.clients import rates
from proxy.relay.clients.store import Store
from proxy.relay.dns import journal
from proxy.relay.plan import BackendPlan, DnsPlan, LogPlan, Plan, ServicePlan, TcpPlan, UdpPlan, service_tree, to_tree
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


@pytest.fixture
async def here():
    """A worker in this process, to be told what to do."""
    table, notes = Table.create(LAYOUT), journal.create()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    plan = Plan(generation=3, layout=LAYOUT, max_connections=10, services=(SERVICE,))
    one = worker.Worker(theirs, worker_messages.Setup(to_tree(plan)), [os.dup(table.fd), notes, *memory()])
    yield one
    one.close()
    ours.close()
    table.close()


async def test_many_verdicts(here, monkeypatch):
    """Thousands of verdicts at once are applied in slices, the last of each backend, between which the traffic has its turn."""
    applied = []

    def apply(changes):
        time.sleep(0.002)
        applied.append(changes)

    monkeypatch.setattr(here._engine, "apply", apply)
    for verdict in ("down", "up"):
        here._on_message(
            worker_messages.Verdicts([[at, backend, verdict, "ready"] for at in range(100) for backend in (0, 1)]), []
        )
    turns = 0
    while here._verdicts:
        await asyncio.sleep(0)
        turns += 1
    assert applied == [[(at, 0, "up", "ready"), (at, 1, "up", "ready")] for at in range(100)]
    assert turns > 15
    here._on_message(worker_messages.Verdicts([[at, 0, "down", "ready"] for at in range(10)]), [])
    here._on_message(worker_messages.Listen([]), [])
    assert len(applied) == 110  # before anything is polled, all of them


async def test_no_setup(life):
    """A worker whose master is gone before its first order leaves in silence."""
    life.child.channel.close()
    await life.until(lambda: life.deaths)
    assert life.deaths == ["exit status 0"]


def confirmed(life):
    """The generations that a worker has confirmed."""
    return [one.generation for one in life.got if isinstance(one, worker_messages.Confirmed)]


async def test_services_that_change(life):
    """R3: a worker takes over changed and new services, serves their listeners, and confirms each generation once."""
    life.begin()
    backend = socket.create_server(("127.0.0.1", 0))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    port = backend.getsockname()[1]
    new = replace(SERVICE, slot=1, name="new", backends=(BackendPlan(1, "b", "127.0.0.1", port, 1),))
    with backend, listener:
        backend.settimeout(5)
        life.child.send(worker_messages.Services(4, [service_tree(new), service_tree(SERVICE)], []))
        life.child.send(worker_messages.Verdicts([[1, 1, "up", "ready"]]))
        life.child.send(worker_messages.Listen([[0, 0, 1, "tcp", *listener.getsockname()]]), [listener.fileno()])
        await life.until(lambda: confirmed(life) == [4])
        with socket.create_connection(listener.getsockname(), timeout=5) as client:
            listener.close()
            served = await asyncio.to_thread(backend.accept)
            life.child.send(worker_messages.Unlisten([[0, 0]], drain=True))
            life.child.send(worker_messages.Services(5, [], [[1, 30.0]]))
            client.sendall(b"still there?")
            assert await asyncio.to_thread(served[0].recv, 100) == b"still there?"
            assert confirmed(life) == [4]
            served[0].close()
        await life.until(lambda: confirmed(life) == [4, 5])
    assert not life.deaths


async def test_settings_and_level(here, monkeypatch):
    """R3: a worker has the limit, the connection log and the level that the last order says."""
    changed = []
    monkeypatch.setattr(worker.log, "change", lambda *to: changed.append(to))
    here._on_message(worker_messages.Settings(7, asdict(LogPlan("all", "json", "", "127.0.0.1", 9))), [])
    here._on_message(messages.Level("debug", "json"), [])
    assert changed == [("debug", "json")]
    assert (here._engine._admission.most, here._engine._log.wanted) == (7, True)


async def test_a_hand_over(life):
    """R6: a worker that hands over says at once which UDP sessions these were, and leaves when nothing is open."""
    life.begin()
    life.child.send(worker_messages.Drain(5.0, hand_over=True))
    await life.until(lambda: life.deaths)
    assert worker_messages.Sessions([], True) in life.got
    assert life.deaths == ["exit status 0"]


async def test_sessions_of_a_stranger(here, caplog):
    """R6: UDP sessions of a service that a worker does not have are closed, and it says so."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        copy = os.dup(sock.fileno())
    row = ["127.0.0.1:53/udp", "dns", "b0", "10.0.0.1", 4711, 1.5]
    here._on_message(worker_messages.Sessions([row], True), [copy])
    assert caplog.messages == ["1 UDP session of the predecessor cannot go on here"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(copy)


def test_it_imports_what_a_worker_needs():
    """A worker's memory has no library of the file, the probes, the control socket or netlink, nor other processes' rooms."""
    code = "import sys, proxy.worker; print(*{name.split('.')[0] for name in sys.modules}, *sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    foreign = {"aiohttp", "asyncpg", "click", "cryptography", "dns", "h11", "ldap3", "prometheus_client", "pydantic"}
    foreign |= {"pymysql", "pyroute2", "redis", "textual", "health", "vrrp", "email", "multiprocessing", "unittest"}
    foreign |= {"proxy.config", "proxy.master", "proxy.control", "proxy.backends", "proxy.workers", "proxy.commands"}
    assert "proxy.relay.engine" in said
    assert not foreign & set(said)
