"""The numbers of signed adverts over restarts."""

import asyncio
import threading
from ipaddress import ip_address

import pytest

from vrrp.auth import number_at
from vrrp.numbers import PERIOD, Keeper, Numbers

PEER = ip_address("192.0.2.3")
WALL = 1_800_000_000.0


class Memory:
    """A store that remembers each document, and may hang or fail."""

    def __init__(self, document=None):
        self.documents = [] if document is None else [document]
        self.error = None
        self.free = threading.Event()
        self.free.set()

    def load(self):
        """Return the last document."""
        self.free.wait(30)
        if self.error:
            raise self.error
        return self.documents[-1] if self.documents else None

    def save(self, document):
        """Remember a document."""
        self.free.wait(30)
        if self.error:
            raise self.error
        self.documents.append(document)


async def test_what_is_kept_is_found_again():
    """V21: the next process knows what was sent and seen before a stop, and goes on right behind it."""
    store, told = Memory(), []
    keeper = Keeper(store, told.append)
    assert await keeper.load(5) == Numbers()
    keeper.follow(lambda: Numbers(number_at(WALL), {"eth0/51/4": {PEER: 7}}))
    await keeper.close(5)
    assert await Keeper(store, told.append).load(5) == Numbers(number_at(WALL), {"eth0/51/4": {PEER: 7}})
    assert told == []


def test_after_a_crash_numbers_are_above_what_was_sent():
    """V21: after a crash in the same boot numbers go on with the time that has passed, after a reboot with a margin."""
    kept = Numbers(number_at(WALL), {}, at=100.0, boot="one")
    assert number_at(WALL + 5) < kept.next_sent("one", 105.0) < number_at(WALL + 5.1)
    assert kept.next_sent("two", 3.0) > number_at(WALL + PERIOD)
    assert kept.next_sent("one", 90.0) > number_at(WALL)
    assert Numbers().next_sent("one", 5.0) == 0


async def test_changes_are_written_once_in_a_while():
    """V21: numbers that grow with time are written each 10 s, a jump and the first ones at once, and what is unchanged never."""
    store, now = Memory(), [Numbers(number_at(WALL), {})]
    keeper = Keeper(store, pytest.fail)
    await keeper.load(5)
    keeper.follow(lambda: now[0])
    for later in (0.0, 1.0, 2.0, 3600.0):
        now[0] = Numbers(number_at(WALL + later), {})
        keeper._look()
    await keeper.close(5)
    sent = [document["sent"] for document in store.documents]
    assert sent[-1] == number_at(WALL + 3600)
    assert not {number_at(WALL + later) for later in (1.0, 2.0)} & set(sent)


async def test_a_disk_that_hangs_holds_nobody_up():
    """V17, V21: a state directory that hangs costs the start half a second and the end as much, and the routers go on."""
    store, told = Memory(), []
    store.free.clear()
    keeper = Keeper(store, told.append)
    assert await keeper.load(0.05) == Numbers()
    keeper.follow(lambda: Numbers(1, {}))
    await keeper.close(0.05)
    assert told == ["the numbers of signed adverts could not be read within 0.05 s"]
    store.free.set()


async def test_what_cannot_be_kept_is_told():
    """V21: numbers that can be neither read nor written are told of, once each."""
    store, told = Memory(), []
    store.error = OSError("/var/lib/steelyard: no space left on device")
    keeper = Keeper(store, told.append)
    assert await keeper.load(5) == Numbers()
    for number in (1, 2**40, 2**50):
        keeper.follow(lambda number=number: Numbers(number, {}))
    await keeper.close(5)
    await asyncio.sleep(0)
    assert told == [
        "the numbers of signed adverts could not be read: /var/lib/steelyard: no space left on device",
        "the numbers of signed adverts cannot be saved, so a restart will not know them: /var/lib/steelyard: no space left on device",
    ]


@pytest.mark.parametrize(
    "document",
    [[], "x", {}, {"sent": "x", "seen": {}, "at": 0, "boot": ""}, {"sent": 1, "seen": [], "at": 0, "boot": ""},
     {"sent": 1, "seen": {"eth0/51/4": {"nobody": 1}}, "at": 0, "boot": ""},
     {"sent": 1, "seen": {"eth0/51/4": 3}, "at": 0, "boot": ""}, {"sent": 1 << 64, "seen": {}, "at": 0, "boot": ""},
     {"sent": 1, "seen": {}, "at": float("nan"), "boot": "x"}, {"sent": float("inf"), "seen": {}, "at": 0, "boot": ""}],
)  # fmt: skip
async def test_another_document_is_none(document):
    """V21: a file that does not hold numbers is told of, and none are taken from it."""
    told = []
    assert await Keeper(Memory(document), told.append).load(5) == Numbers()
    assert told == ["the numbers of signed adverts could not be read: the file does not hold the numbers of adverts"]
