"""Tests of the health child's side of the channel."""

import asyncio
import socket

import pytest

from health.monitor import Verdict
from proxy import healthd
from proxy.healthd import CROWDED, Health
from proxy.processes import channel, codec
from proxy.processes.messages import common as messages
from proxy.processes.messages import health as health_messages

NONE = {
    "key": "0.0",
    "address": "127.0.0.1",
    "port": 9,
    "probes": [{"type": "none"}],
    "require": "all",
    "state": "unknown",
}


@pytest.fixture
async def pair(monkeypatch):
    monkeypatch.setattr(healthd, "BEAT", 0.02)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    health = Health(theirs)
    yield ours, health
    await health.close()
    ours.close()


def read(sock):
    got = []
    sock.setblocking(False)
    while True:
        try:
            got.append(channel.receive(sock)[0])
        except BlockingIOError:
            return got


async def test_it_beats(pair):
    """Health says that it is ready, and shows from then on that its loop comes round."""
    ours, _ = pair
    await asyncio.sleep(0.1)
    got = read(ours)
    assert isinstance(got[0], messages.Ready)
    assert got.count(messages.Beat()) >= 3


async def test_a_master_that_does_not_read(pair):
    """Verdicts for a master that does not read are kept, the last one of each backend, and told when it reads again."""
    ours, health = pair
    for number in range(20_000):
        health._on_verdict(Verdict(f"0.{number % 10}", "up" if number % 20 < 10 else "down", str(number), 1.0, "up"))
    assert health._channel.waiting <= CROWDED
    assert not health.done.is_set()
    last = {}
    async with asyncio.timeout(5):
        while {key: one.reason for key, one in last.items()} != {f"0.{at}": str(19_990 + at) for at in range(10)}:
            last |= {one.key: one for one in read(ours) if isinstance(one, health_messages.Probed)}
            await asyncio.sleep(0.01)


async def test_orders(pair):
    """It watches what it is told, reports when asked, takes hints on backends it does not know, and ends with its master."""
    ours, health = pair
    for order in (health_messages.Watch([NONE]), health_messages.Suspect("a/b"), messages.Ask(3)):
        ours.send(b"J" + codec.encode(order))
    got = []
    async with asyncio.timeout(5):
        while not any(isinstance(one, health_messages.Probed) for one in got):
            got += read(ours)
            await asyncio.sleep(0.01)
    assert any(isinstance(one, health_messages.Report) and one.number == 3 for one in got)
    ours.close()
    async with asyncio.timeout(5):
        await health.done.wait()
    assert not health.failed


async def test_passwords_and_runs(pair):
    """S6: it has the passwords that it is handed, and runs a probe by hand with them; one run too many is told as such."""
    ours, _ = pair
    mail = {
        **NONE,
        "probes": [{"type": "pop3", "user": "p", "password-file": "/no/such", "port": 1, "interval": 3600.0}],
    }
    orders = [
        health_messages.Secrets({"/no/such": ["", "password file /no/such is missing"]}),
        health_messages.Watch([mail]),
    ]
    runs = [health_messages.Run(number, ["0.0"]) for number in range(healthd.RUNS + 2)]
    for order in (*orders, *runs):
        ours.send(b"J" + codec.encode(order))
    ran = {}
    async with asyncio.timeout(5):
        while len(ran) < len(runs):
            ran |= {one.number: one for one in read(ours) if isinstance(one, health_messages.Ran)}
            await asyncio.sleep(0.01)
    assert ran[0].rows[0]["reason"] == "could not probe: password file /no/such is missing"
    last = ran[healthd.RUNS + 1]
    assert (last.rows, last.busy) == ([], f"{healthd.RUNS} probe runs are in progress already: try again")


async def test_an_order_that_cannot_be_obeyed(pair):
    """Targets that make no sense end health as failed: one that watches nothing and still beats would be worse."""
    ours, health = pair
    ours.send(b"J" + codec.encode(health_messages.Watch([{"key": "0.0"}])))
    async with asyncio.timeout(5):
        await health.done.wait()
    assert health.failed


async def test_another_level(pair, monkeypatch):
    """R3: health logs at the level, and in the format, that the master names."""
    ours, _ = pair
    changed = asyncio.Queue()
    monkeypatch.setattr(healthd.log, "change", lambda *to: changed.put_nowait(to))
    ours.send(b"J" + codec.encode(messages.Level("debug", "json")))
    async with asyncio.timeout(5):
        assert await changed.get() == ("debug", "json")
