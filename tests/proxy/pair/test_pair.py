"""Tests of what is remembered of standby and resume; how the addresses move is in the end-to-end tests."""

import asyncio

import pytest

from proxy.config.loader import load
from proxy.pair.pair import STANDBY, Redundancy
from proxy.processes.child import Identity
from proxy.records.disk_thread import DiskThread
from proxy.records.document import Document, StateError
from proxy.records.document import load as load_document

FILE = """
[node]
name = "n"
workers = 1
[vrrp.inside]
interface = "eth0"
vrid = 1
addresses = ["192.0.2.10/24"]
[vrrp.outside]
interface = "eth0"
vrid = 2
addresses = ["198.51.100.10/24"]
"""


class Bed:
    """A host's part in a pair, whose process takes every order but does not exist; `left` stays where it is."""

    def __init__(self, directory, monkeypatch):
        path = directory / "f.toml"
        path.write_text(FILE)
        self.directory, self.told, self.asked, self.left = directory, [], [], []
        document = Document(DiskThread("disk"), directory, STANDBY)
        document.content = load_document(directory, STANDBY)
        self.pair = Redundancy(
            load(path),
            Identity(None, None, "info", "text"),
            document,
            lambda *told: self.told.append(told),
            lambda _: 0,
        )
        self.routers = self.pair.routers
        monkeypatch.setattr(self.routers, "standby", self.standby)

    async def standby(self, names, reason):
        """Hand over what is not `left`; note what a restart would know by then."""
        self.asked.append((sorted(names), self.saved))
        self.routers.mark_standby(names, reason)
        self.routers._end_standby(self.left)
        return self.left

    @property
    def saved(self):
        """What a restart would know."""
        return load_document(self.directory, STANDBY)


@pytest.fixture
async def bed(tmp_path, monkeypatch):
    return Bed(tmp_path, monkeypatch)


async def test_remembered_before_it_is_done(bed):
    """R9, R15: what is handed over is remembered by then, and no longer when this host may take it again."""
    assert await bed.pair.standby(["inside"], 0, "uid 0") == (True, [])
    assert bed.asked == [(["inside"], ["inside"])]
    assert await bed.pair.resume(["inside"], "uid 0")
    assert (bed.saved, set(bed.routers.in_standby)) == (None, set())
    assert not await bed.pair.resume(["inside"], "uid 0")


async def test_nothing_moves_that_cannot_be_remembered(bed):
    """R15: where it cannot be saved, `standby` hands nothing over and `resume` takes nothing back, and both say so."""
    (bed.directory / STANDBY).mkdir()
    with pytest.raises(StateError, match="Is a directory"):
        await bed.pair.standby(["inside"], 0, "uid 0")
    assert (bed.asked, set(bed.routers.in_standby)) == ([], set())
    assert bed.told[-1][0] == "standby"
    (bed.directory / STANDBY).rmdir()
    await bed.pair.standby(["inside"], 0, "uid 0")
    (bed.directory / STANDBY).unlink()
    (bed.directory / STANDBY).mkdir()
    with pytest.raises(StateError):
        await bed.pair.resume(["inside"], "uid 0")
    assert set(bed.routers.in_standby) == {"inside"}


async def test_what_stays_here_is_not_remembered(bed):
    """R15: an address that nobody else takes stays, and a restart does not have it in standby."""
    bed.left = ["outside"]
    assert await bed.pair.standby(["inside", "outside"], 0, "uid 0") == (True, ["outside"])
    assert bed.saved == ["inside"]


async def test_whoever_leaves_cuts_nothing_short(bed):
    """R15: an operator who leaves while the address moves has moved it all the same, and it is remembered."""
    client = asyncio.create_task(bed.pair.standby(["inside"], 0, "uid 0"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    client.cancel()
    await asyncio.gather(client, *bed.pair._moving, return_exceptions=True)
    assert (bed.saved, [names for names, _ in bed.asked]) == (["inside"], [["inside"]])


async def test_a_stop_hands_all_addresses_over(bed):
    """R12: for a stop all addresses are handed over; only if other hosts take them all is there nobody left to serve here."""
    assert await bed.pair.yield_addresses("stopping") is True
    assert bed.asked == [(["inside", "outside"], None)]
    assert {row["standby"] for row in bed.pair.state()["routers"]} == {False}


async def test_an_address_that_nobody_takes_stays(bed):
    """R12: an address that no other host takes stays here, and its router takes part."""
    bed.left = ["inside"]
    assert await bed.pair.yield_addresses("stopping") is False
    assert set(bed.routers.in_standby) == {"outside"}


async def test_a_standby_of_the_operator_is_inherited(bed):
    """R9, R12: a router that the operator has put in standby is so for a successor, those of a stop are not."""
    await bed.pair.standby(["inside"], 0, "uid 0")
    await bed.pair.yield_addresses("stopping")
    standby = [row["standby"] for row in bed.pair.state()["routers"]]
    assert sorted(standby) == [False, True]
