"""A daemon's part in the pair, with its real vrrp process: new settings, a process that dies meanwhile, a successor."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager

import pytest

from proxy.config.loader import load
from proxy.moments import unix
from proxy.pair.pair import STANDBY, Redundancy
from proxy.pair.router_settings import KeyFileError
from proxy.processes.child import Identity
from proxy.records.disk_thread import DiskThread
from proxy.records.document import Document
from proxy.records.document import load as load_document
from tests.e2e.bed import Bed
from tests.e2e.test_vrrp_runner import is_true
from tests.e2e.vrrp import VIP, Adverts, Ours, holders, owner_settles, pair

ADDRESS = VIP[4].partition("/")[0]
A = "198.51.100.2"
ROUTER = """
[vrrp.outside]
interface = "eth0"
vrid = 51
addresses = ["198.51.100.10/24"]
advert-interval = "100ms"
priority = 150
"""
SECOND = """
[vrrp.second]
interface = "eth0"
vrid = 52
addresses = ["198.51.100.11/24"]
advert-interval = "100ms"
"""


@pytest.fixture
def bed() -> Iterator[Bed]:
    """Make two hosts and a client on a LAN; the test runs in host a."""
    with pair() as made, made.inside("a"):
        yield made


class Part:
    """The part in the pair of a daemon on host a, without the rest of the daemon."""

    def __init__(self, bed, text, inherited=None):
        self.bed, self.directory = bed, bed.dir
        document = Document(DiskThread("disk"), bed.dir, STANDBY)
        document.content = load_document(bed.dir, STANDBY)
        self.told = []
        self.pair = Redundancy(
            self.config(text), Identity(None, None, "info", "text"), document,
            lambda name, text, level, fields: self.told.append((name, text, fields)), lambda _: 0, inherited,
        )  # fmt: skip
        self.looking = asyncio.create_task(self.look())

    def config(self, text):
        """Load a file with these routers."""
        path = self.bed.dir / "steelyard.toml"
        path.write_text(f'[node]\nname = "a"\nworkers = 1\nstate-dir = "{self.bed.dir}"\n{text}')
        return load(path)

    async def look(self):
        """Do what the master's tick does."""
        while True:
            self.pair.look(time.monotonic(), {}, {}, serving=True)
            await asyncio.sleep(0.1)

    async def change(self, text):
        """Put another file into force."""
        self.pair.commit(self.pair.prepare(self.config(text)))
        return await self.pair.settled()

    def moves(self, name="outside"):
        """Return the states that were told of a router, in order."""
        return [fields["state"] for one, _, fields in self.told if one == name and "previous" in fields]

    def state(self, name="outside"):
        """Return the state of a router."""
        return self.pair.routers.states.get(name) if self.pair.routers is not None else None

    async def end(self):
        """Leave the pair, and end all processes."""
        self.looking.cancel()
        await self.pair.leave(hand_over=False)
        await self.pair.finish()
        for child in self.pair.children:
            await asyncio.wait_for(child.gone.wait(), 3)


@asynccontextmanager
async def part(bed, text, inherited=None, *, take_up=True):
    """Make a part in the pair that runs, and end it."""
    made = Part(bed, text, inherited)
    made.pair.start()
    if take_up:
        made.pair.take_up()
    try:
        yield made
    finally:
        await made.end()


def peer(bed, *routers):
    """Start the other host; it is backup of all routers."""
    return Ours(bed, "b", *routers or ({"advert_interval": 0.1},))


async def test_new_settings_reach_the_process(bed):
    """R3: changed and new routers are in force once `settled` returns, and what was there does not move."""
    async with part(bed, ROUTER) as a:
        await is_true(lambda: a.state() == "active", 6)
        other = peer(bed)
        pid = a.pair.routers._kept.child.pid
        assert await a.change(ROUTER.replace("150", "120") + SECOND) == []
        await is_true(lambda: a.state("second") == "active")
        rows = {row["name"]: row for row in await a.pair.rows()}
        assert (rows["outside"]["priority"], rows["second"]["state"]) == (120, "active")
        assert await a.change(ROUTER) == []
        assert a.moves("second") == ["backup", "active", "init"]
        assert (a.moves(), other.moves()) == (["backup", "active"], ["backup"])
        assert a.pair.routers._kept.child.pid == pid
        assert a.pair.routers.names == ["outside"]


async def test_the_process_dies_meanwhile(bed):
    """V14: if the vrrp process is killed as it gets new settings, its successor has them, and adopts what is still there."""
    async with part(bed, ROUTER + SECOND) as a:
        await is_true(lambda: (a.state(), a.state("second")) == ("active", "active"), 6)
        await is_true(lambda: len(a.pair.children) == 2, 6)  # the one that stands by
        await asyncio.sleep(0.5)
        other = peer(bed, {"advert_interval": 0.3})
        slow = ROUTER.replace("100ms", "300ms")
        assert await a.change(slow + SECOND) == []
        prepared = a.pair.prepare(a.config(slow.replace("outside", "outer").replace("150", "140")))
        a.pair.commit(prepared)
        os.kill(a.pair.routers._kept.child.pid, signal.SIGKILL)
        assert await a.pair.settled() == []
        row = (await a.pair.rows())[0]
        assert (row["name"], row["state"], row["priority"]) == ("outer", "active", 140)
        await asyncio.sleep(1.5)
        assert other.moves() == ["backup"]
        assert await asyncio.to_thread(owner_settles, bed, ADDRESS) == "a"


async def test_the_first_router_and_the_last(bed):
    """R3: the first router of a daemon starts its vrrp process; without routers the address is handed over, and it ends."""
    async with part(bed, "") as a:
        assert a.pair.children == []
        assert await a.change(ROUTER) == []
        await is_true(lambda: a.state() == "active", 6)
        other = peer(bed)
        wire = Adverts(bed)
        children = a.pair.children
        assert await a.change("") == []
        await is_true(lambda: other.state == "active", 1)
        await is_true(lambda: wire.of(A)[-1][1] == 0, 1)
        assert a.pair.routers is None
        await is_true(lambda: a.pair.children == [], 3)
        assert not any(child.alive for child in children)


async def test_standby_follows_the_router(bed):
    """A router in standby stays so under another name, and is forgotten with the router; the file says the same."""
    async with part(bed, ROUTER + SECOND) as a:
        peer(bed)
        await is_true(lambda: (a.state(), a.state("second")) == ("active", "active"), 6)
        await a.pair.standby(["outside"], 0, "uid 0")
        await is_true(lambda: a.state() == "backup")
        assert await a.change(ROUTER.replace("outside", "outer") + SECOND) == []
        assert set(a.pair.routers.in_standby) == {"outer"}
        await is_true(lambda: load_document(bed.dir, STANDBY) == ["outer"], 1)
        assert (await a.pair.rows())[0]["standby"]
        assert await a.change(SECOND) == []
        await is_true(lambda: load_document(bed.dir, STANDBY) is None, 1)
        assert await a.change(ROUTER + SECOND) == []
        await is_true(lambda: a.state() == "active")


async def test_what_cannot_be_changes_nothing(bed):
    """R2: a key file that cannot be read is found by `prepare`, and the routers go on as they are."""
    async with part(bed, ROUTER) as a:
        await is_true(lambda: a.state() == "active", 6)
        key = bed.dir / "key"
        key.write_text("k" * 32)
        key.chmod(0o600)
        config = a.config(ROUTER + f'auth = {{ mode = "enforce", key-files = ["{key}"] }}\n')
        key.unlink()  # since the file was judged
        with pytest.raises(KeyFileError, match=str(key)):
            a.pair.prepare(config)
        assert (await a.pair.rows())[0]["state"] == "active"
        assert a.moves() == ["backup", "active"]


async def test_a_successor_takes_up_the_routers(bed):
    """R8: a successor on the same host takes the addresses over within their lease, without a word on the wire or in the log."""
    fifo = bed.dir / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    text = f'{ROUTER}[notify.pager]\nfifo = "{fifo}"\n'
    async with part(bed, text) as old:
        await is_true(lambda: old.state() == "active", 6)
        other = peer(bed)
        wire = Adverts(bed)
        since = unix((await old.pair.rows())[0]["since"])
        state = json.loads(json.dumps(old.pair.state()))
        async with part(bed, text, state, take_up=False) as new:
            await is_true(lambda: new.pair.ready, 6)
            await asyncio.sleep(2.2)  # what the state says of the lease is old by now
            assert new.moves() == []
            assert holders(bed, ADDRESS) == ["a"]
            old.pair.abandon()
            new.pair.take_up()
            for _ in range(60):
                assert await asyncio.to_thread(holders, bed, ADDRESS) == ["a"]
                await asyncio.sleep(0.05)
            assert unix((await new.pair.rows())[0]["since"]) == pytest.approx(since, abs=0.01)
            assert (old.moves(), new.moves()) == (["backup", "active"], [])
            assert new.state() == "active"
            assert other.moves() == ["backup"]
            assert wire.longest_gap(A) < 0.1 + 0.25
            assert all(priority == 150 for _, priority, _ in wire.of(A))
            told = os.read(reader, 1000).decode().splitlines()
            assert told == ['INSTANCE "outside" BACKUP 150', 'INSTANCE "outside" MASTER 150']
            assert not any(child.alive for child in old.pair.children)
    os.close(reader)


async def test_a_successor_of_a_backup(bed):
    """R8: a successor of a backup listens as that did, tells nothing, and takes over when the other host is gone."""
    other = peer(bed, {"advert_interval": 0.1, "priority": 200})
    other.wait("active")
    async with part(bed, ROUTER) as old:
        await is_true(lambda: old.state() == "backup", 6)
        state = json.loads(json.dumps(old.pair.state()))
        async with part(bed, ROUTER, state, take_up=False) as new:
            await is_true(lambda: new.pair.ready, 6)
            old.pair.abandon()
            new.pair.take_up()
            await asyncio.sleep(1)
            assert (new.moves(), new.state()) == ([], "backup")
            other.proc.kill()
            await is_true(lambda: new.moves() == ["active"])
