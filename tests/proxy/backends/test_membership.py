"""Which backends services have: what `add`, `remove` and `weight` change, what they refuse, and how it is undone."""

import asyncio
import re

import pytest

from proxy.backends.edits import Edit
from proxy.backends.errors import FailedError
from proxy.backends.saved import SAVED
from proxy.control.server import Request
from proxy.control.wire import BAD_REQUEST, ControlError
from tests.proxy.backends.bed import EVERYWHERE, FIRST, NEW, SECOND, Bed


@pytest.fixture
async def bed(tmp_path):
    return Bed(tmp_path)


async def test_one_that_is_added(bed):
    """H1: a backend that is added is as one more entry of the file would be, with the defaults and probes of its service."""
    assert await bed.ask("add", address="192.0.2.13", weight=5)
    assert bed.names == ["192.0.2.11", "ns2", "192.0.2.13"]
    new, old = bed.running.backends[NEW], bed.running.backends[FIRST]
    assert (new.address, new.weight, new.max_connections) == ("192.0.2.13", 5, 7)
    assert [probe.model_copy(update={"address": "192.0.2.11"}) for probe in new.probes] == list(old.probes)
    assert bed.heard == [("dns", [3])]
    assert bed.told == ["dns/192.0.2.13: added with weight 5, by uid 1000"]
    assert set(bed.membership.added) == {NEW}
    assert not await bed.ask("add", address="192.0.2.13")
    assert not await bed.ask("add", address="192.0.2.13", weight=5)
    assert await bed.ask("add", address="[2001:db8::13]:5353")
    assert bed.running.backends["dns", "[2001:db8::13]:5353"].port == 5353


async def test_one_that_is_removed(bed):
    """T16: a backend that is removed is drained, and gone once it has nothing open; then nothing of it is left but the act."""
    bed.active[SECOND] = 2
    assert await bed.ask("remove", backend="192.0.2.12")
    assert (bed.admins.state(SECOND), bed.admins.leaves(SECOND)) == ("drain", True)
    bed.later()
    assert bed.names == ["192.0.2.11", "ns2"]
    assert not await bed.ask("remove", backend="ns2")
    bed.active.clear()
    bed.later()
    assert (bed.names, bed.heard) == (["192.0.2.11"], [("dns", [])])
    assert bed.told[-1] == "dns/ns2: removed: nothing is open any more"
    assert not bed.admins.leaves(SECOND)
    assert [(row["backend"], row["act"]) for row in bed.membership.rows()] == [("ns2", "removed")]
    assert not await bed.ask("remove", backend="ns2")


async def test_each_worker_has_heard_of_it(bed):
    """T16: a backend that has nothing open stays listed until no worker can have given it something after that."""
    await bed.ask("remove", backend="ns2")
    bed.later(0.5)
    assert "ns2" in bed.names
    bed.active[SECOND] = 1  # from a worker that had not heard of it yet
    bed.later()
    assert "ns2" in bed.names
    bed.active.clear()
    bed.later()
    assert "ns2" not in bed.names


async def test_its_connections_have_until_drain_timeout(bed):
    """T16: what a removed backend has left at drain-timeout is cut; with --force at once."""
    bed.active[SECOND] = 1
    await bed.ask("remove", backend="ns2")
    bed.later(3599)
    assert bed.admins.acted(SECOND) == "drain"
    bed.later(3601)
    assert bed.admins.acted(SECOND) == "maint"
    await bed.ask("add", address="ns2")
    assert (bed.admins.acted(SECOND), bed.membership.edits) == ("ready", 0)
    assert await bed.ask("remove", backend="ns2", force=True)
    assert (bed.admins.acted(SECOND), bed.admins.state(SECOND)) == ("maint", "drain")
    assert await bed.ask("remove", backend="ns2", force=True)  # to be sure


async def test_one_that_comes_back(bed):
    """R9: a removed backend that is added again is as the file has it, also while it is leaving, with another weight if told."""
    bed.active[SECOND] = 1
    await bed.ask("remove", backend="ns2")
    assert await bed.ask("add", address="192.0.2.12")
    assert (bed.admins.acted(SECOND), bed.heard, bed.membership.rows()) == ("ready", [], [])
    bed.active.clear()
    bed.later()
    assert "ns2" in bed.names
    await bed.ask("remove", backend="ns2")
    bed.later()
    assert await bed.ask("add", address="192.0.2.12", weight=9)
    assert bed.running.backends[SECOND].weight == 9
    assert [row["act"] for row in bed.membership.rows()] == ["weight 9"]


async def test_what_was_never_in_the_file_leaves_no_trace(bed):
    """R9: a backend that was added and is removed differs from nothing."""
    await bed.ask("add", address="192.0.2.13")
    await bed.ask("remove", backend="192.0.2.13")
    assert [row["act"] for row in bed.membership.rows()] == ["added"]
    bed.later()
    assert (bed.membership.edits, bed.names) == (0, ["192.0.2.11", "ns2"])


async def test_the_last_one_stays(bed):
    """H14: the last backend that could serve is removed only by force, the last of all never."""
    bed.down.add("192.0.2.11")
    with pytest.raises(ControlError, match="no other backend of dns can serve now: use --force"):
        await bed.ask("remove", backend="ns2")
    assert await bed.ask("remove", backend="192.0.2.11")  # which does not serve
    with pytest.raises(ControlError, match="dns would have no backend any more"):
        await bed.ask("remove", backend="ns2", force=True)
    with pytest.raises(ControlError, match="web would have no backend any more"):
        await bed.ask("remove", "web", backend="192.0.2.11")


async def test_a_weight(bed):
    """T24: a weight that an operator gives is shown and holds over a probe's, until it is cleared."""
    assert await bed.ask("weight", backend="ns2", weight=0)
    assert (bed.running.backends[SECOND].weight, bed.running.weighed, bed.heard) == (0, {SECOND}, [SECOND])
    assert not await bed.ask("weight", backend="ns2", weight=0)
    assert await bed.ask("weight", backend="192.0.2.11", weight=1)  # the file's, but now the operator's
    await bed.membership.clear(Edit("uid 0", 0.0))
    assert (bed.running.backends[SECOND].weight, bed.running.weighed, bed.membership.edits) == (3, set(), 0)


async def test_no_weight_for_the_last(bed):
    """T16: weight 0 gives a backend nothing new, as a drain does: the last that could serve gets it with --force alone."""
    bed.down = {"192.0.2.11"}
    with pytest.raises(ControlError, match="no other backend of dns can serve now: use --force"):
        await bed.ask("weight", backend="ns2", weight=0)
    assert await bed.ask("weight", backend="ns2", weight=1)
    assert await bed.ask("weight", backend="192.0.2.11", weight=0)
    assert await bed.ask("weight", backend="ns2", weight=0, force=True)


async def test_no_room_for_a_clear(tmp_path):
    """R15: without room for all that would come back, `overrides clear` is refused and changes nothing; then it can be made."""
    bed = Bed(tmp_path, capacity=4)
    await bed.ask("remove", backend="ns2")
    bed.later()
    for last in (13, 14):
        await bed.ask("add", address=f"192.0.2.{last}")
    before = (bed.names, bed.membership.rows(), [*bed.told])
    with pytest.raises(FailedError, match="the counters have room for 4 only"):
        await bed.membership.clear(Edit("uid 0", 0.0))
    assert (bed.names, bed.membership.rows(), bed.told) == before
    await bed.ask("remove", backend="192.0.2.14")
    bed.later()
    await bed.membership.clear(Edit("uid 0", 0.0))
    bed.later()
    assert bed.names == ["192.0.2.11", "ns2"]


async def test_a_clear_that_cannot_be_saved(bed, tmp_path):
    """R15: if the saved acts cannot be removed, `overrides clear` is refused and ends none of them."""
    await bed.set("maint", save=True)
    await bed.ask("weight", backend="ns2", weight=7)
    (tmp_path / SAVED).unlink()
    (tmp_path / SAVED).mkdir()
    bed.changed.clear()
    with pytest.raises(FailedError, match="nothing is changed, as it cannot be saved"):
        await bed.membership.clear(Edit("uid 0", 0.0))
    assert (bed.admins.state(SECOND), bed.running.backends[SECOND].weight, bed.changed) == ("maint", 7, [])
    (tmp_path / SAVED).rmdir()
    await bed.membership.clear(Edit("uid 0", 0.0))
    assert (bed.admins.state(SECOND), bed.running.backends[SECOND].weight, bed.changed) == ("ready", 3, [[SECOND]])


async def test_all_is_undone(bed):
    """R9: cleared overrides bring back what was removed, and take out what was added, by its drain."""
    await bed.ask("add", address="192.0.2.13")
    await bed.ask("weight", backend="192.0.2.13", weight=4)
    await bed.ask("remove", backend="ns2")
    bed.later()
    await bed.ask("remove", backend="192.0.2.11")
    bed.active[NEW] = 1
    await bed.membership.clear(Edit("uid 0", 0.0))
    assert sorted(bed.names) == ["192.0.2.11", "192.0.2.13", "ns2"]
    assert [key for key in bed.running.backends if bed.admins.leaves(key)] == [NEW]
    bed.active.clear()
    bed.later()
    assert (sorted(bed.names), bed.membership.edits) == (["192.0.2.11", "ns2"], 0)


async def test_an_act_on_one_that_leaves(bed):
    """R7: one that is to be removed is not ready at a word; `add` keeps it."""
    bed.active[SECOND] = 1
    await bed.ask("remove", backend="ns2")
    with pytest.raises(ControlError, match="dns/ns2: to be removed; `steelyard add` keeps it"):
        async for _ in bed.act(Request("ready", {"service": "dns", "backend": "ns2"}, 1, 0)):
            pass


async def test_ready_everywhere_but_where_it_leaves(bed):
    """R7: a host that is ready again is so in every service but those that it is being removed from."""
    bed.active[FIRST] = 1
    await bed.ask("remove", backend="192.0.2.11")
    for command in ("maint", "ready"):
        async for _ in bed.act(Request(command, {"service": "*", "backend": "192.0.2.11", "force": True}, 1, 0)):
            pass
    assert bed.admins.state(("web", "192.0.2.11")) == "ready"
    assert bed.admins.leaves(FIRST)


async def test_an_act_outlives_a_removal(bed):
    """R9: maintenance of a backend that is removed and added again is still what was wanted."""
    async for _ in bed.act(Request("maint", {"service": "dns", "backend": "ns2"}, 1, 0)):
        pass
    await bed.ask("remove", backend="ns2")
    bed.later()
    assert bed.admins.rows() == []
    await bed.ask("add", address="ns2")
    assert bed.admins.state(SECOND) == "maint"


async def test_acts_end_with_one_that_was_added(bed):
    """R9: what was wanted of an added backend is forgotten with it: one of the same address is as new."""
    await bed.ask("add", address="192.0.2.13")
    async for _ in bed.act(Request("maint", {"service": "dns", "backend": "192.0.2.13", "save": True}, 1, 0)):
        pass
    await bed.ask("remove", backend="192.0.2.13")
    bed.later()
    await bed.ask("add", address="192.0.2.13")
    assert (bed.admins.state(NEW), bed.admins.rows()) == ("ready", [])


async def test_a_removal_where_nothing_can_be_saved(bed, tmp_path):
    """R9: a state directory that cannot be written keeps no removed backend half listed, and is told."""
    for last in (13, 14):
        await bed.ask("add", address=f"192.0.2.{last}")
    async for _ in bed.act(Request("drain", {"service": "dns", "backend": "192.0.2.13", "save": True}, 1, 0)):
        pass
    (tmp_path / SAVED).unlink()
    (tmp_path / SAVED).mkdir()
    for last in (13, 14):
        await bed.ask("remove", backend=f"192.0.2.{last}")
    bed.later()
    assert (bed.names, bed.membership.edits) == (["192.0.2.11", "ns2"], 0)
    await bed.saved.settled()
    assert any("still has acts that have ended, as it cannot be saved" in text for text in bed.told)
    bed.later()


async def test_an_earlier_deadline_for_one_that_leaves(bed):
    """T16: a drain with a deadline cuts what is leaving earlier, and is over when it stays after all."""
    bed.active[SECOND] = 1
    await bed.ask("remove", backend="ns2")
    async for _ in bed.act(Request("drain", {"service": "dns", "backend": "ns2", "timeout": 5}, 1, 0)):
        pass
    bed.later(6)
    assert bed.admins.acted(SECOND) == "maint"
    await bed.ask("add", address="ns2")
    assert (bed.admins.acted(SECOND), bed.admins.rows()) == ("ready", [])


async def test_the_files_order(bed):
    """H14: what comes back stands where the file has it, which decides between equals, what was added behind all of it."""
    await bed.ask("add", address="192.0.2.13")
    await bed.ask("remove", backend="192.0.2.11")
    bed.later()
    await bed.ask("add", address="192.0.2.11")
    assert bed.names == ["192.0.2.11", "ns2", "192.0.2.13"]


async def test_no_twins(bed):
    """R7: a backend is the same however its address is written: it is there already, or comes back."""
    for address in ("2001:db8::13", "2001:DB8:0::13", "[2001:db8::13]"):
        assert await bed.ask("add", address=address) == (address == "2001:db8::13")
    await bed.ask("remove", backend="2001:db8::13")
    assert await bed.ask("add", address="2001:DB8::13")
    assert bed.names == ["192.0.2.11", "ns2", "2001:db8::13"]
    for address in ("::ffff:192.0.2.11", "192.0.2.11:53", "[::ffff:192.0.2.12]:53"):
        assert not await bed.ask("add", address=address)
    assert await bed.ask("add", address="192.0.2.12:5353")  # another port is another server
    assert len(bed.names) == 4


@pytest.mark.parametrize(
    ("service", "address", "words"),
    [
        ("dns", "192.0.2.1", "192.0.2.1 is a listener of this service"),
        ("dns", "192.0.2.1:53", "192.0.2.1:53 is a listener of this service"),
        ("all", "127.0.0.1", "127.0.0.1 is a listener of this service"),
        ("all", "192.0.2.1:99", "192.0.2.1:99 is a listener of this service"),
        ("all", "192.0.2.77", "192.0.2.77 is a listener of this service"),
        (
            "web",
            "192.0.2.77:99",
            "192.0.2.77:99 is a listener of [service.all], which leads back here (web -> all -> web)",
        ),
    ],
)
async def test_a_listener_is_not_added(tmp_path, service, address, words):
    """R7: a backend that is a listener of this host and leads back is refused, by whichever of its addresses."""
    bed = Bed(tmp_path, more=EVERYWHERE)
    if service == "web":
        await bed.ask("add", "all", address="192.0.2.1:80")
    names = list(bed.running.backends)
    with pytest.raises(ControlError, match=re.escape(words)) as raised:
        await bed.ask("add", service, address=address)
    assert raised.value.code == BAD_REQUEST
    assert list(bed.running.backends) == names


async def test_many_leave_together(bed):
    """R3: backends of a service that have left at the same look are one change of its list, and one word for the workers."""
    for last in range(20, 40):
        await bed.ask("add", address=f"192.0.2.{last}")
    bed.heard.clear()
    await bed.membership.clear(Edit("uid 0", 0.0))
    bed.later()
    assert (bed.heard, bed.names) == ([("dns", [])], ["192.0.2.11", "ns2"])


async def test_no_room(tmp_path):
    """A backend for which there are no counters is refused in words, and nothing has changed."""
    bed = Bed(tmp_path, capacity=4)
    await bed.ask("add", address="192.0.2.13")
    with pytest.raises(ControlError, match="`steelyard reexec` makes room"):
        await bed.ask("add", address="192.0.2.14")
    assert len(bed.names) == 3
    assert [row["backend"] for row in bed.membership.rows()] == ["192.0.2.13"]


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("add", {"service": "dnss", "address": "192.0.2.9"}, 'there is no service "dnss": did you mean "dns"?'),
        ("add", {"address": "ns9.example.net"}, "write an IP address"),
        ("add", {"address": "192.0.2.9:70000"}, "70000"),
        ("add", {"address": "192.0.2.9\n"}, "192.0.2.9"),
        ("add", {"address": 'x", weight = 9 }, { address = "192.0.2.8'}, "not an IP address"),
        ("add", {"address": None}, "address must be a text"),
        ("add", {"address": "192.0.2.9", "weight": -1}, "weight must be a whole number from 0 to 65535"),
        ("add", {"address": "192.0.2.9", "weight": 65536}, "weight must be a whole number"),
        ("add", {"address": "192.0.2.9", "weight": True}, "weight must be a whole number"),
        (
            "add",
            {"address": "ns2", "weight": 4},
            "dns/ns2 exists already with weight 3: use `steelyard weight` to change it",
        ),
        ("remove", {"backend": "ns3"}, 'dns does not have a backend "ns3": did you mean "ns2"?'),
        ("remove", {"backend": "ns2", "force": "yes"}, "force must be true or false"),
        ("remove", {"backend": "ns2", "save": "yes"}, "save must be true or false"),
        ("weight", {"backend": "ns2"}, "weight must be a whole number"),
        ("weight", {"backend": "ns2", "weight": 1.5}, "weight must be a whole number"),
        ("weight", {"backend": "x", "weight": 1}, "does not have a backend"),
    ],
)
async def test_mistakes_change_nothing(bed, command, arguments, words):
    """R7: a command that makes no sense is refused in words, and does nothing."""
    with pytest.raises(ControlError) as caught:
        await bed.ask(command, **arguments)
    assert words in str(caught.value)
    assert (bed.heard, bed.told, bed.membership.edits) == ([], [], 0)


# -- with --save


SAVING = [
    ("add", {"address": "192.0.2.13", "weight": 4}, ("192.0.2.13", "added")),
    ("remove", {"backend": "ns2"}, ("ns2", "removed")),
    ("weight", {"backend": "ns2", "weight": 9}, ("ns2", "weight 9")),
]


@pytest.mark.parametrize(("command", "arguments", "row"), SAVING, ids=[one[0] for one in SAVING])
async def test_an_act_is_saved_later(bed, tmp_path, command, arguments, row):
    """R9: an act that holds already can be saved: that is a change, is told once, and survives a restart."""
    assert await bed.ask(command, **arguments)
    assert bed.overrides == [(*row, False)]
    assert (Bed(tmp_path).overrides, (tmp_path / SAVED).exists()) == ([], False)
    bed.told.clear()
    before = bed.names
    assert await bed.ask(command, **arguments, save=True)
    assert (bed.overrides, bed.names) == ([(*row, True)], before)
    assert bed.told == [f"dns/{row[0]}: {row[1]} is saved and survives a restart, by uid 1000"]
    assert not await bed.ask(command, **arguments, save=True)
    assert not await bed.ask(command, **arguments)
    assert len(bed.told) == 1
    assert Bed(tmp_path).overrides == [(*row, True)]


async def test_a_removal_is_saved_when_it_is_over(bed, tmp_path):
    """R9: the removal of a backend that is gone already can still be saved."""
    await bed.ask("remove", backend="192.0.2.12")
    bed.later()
    assert "ns2" not in bed.names
    assert await bed.ask("remove", backend="192.0.2.12", save=True)
    assert Bed(tmp_path).names == ["192.0.2.11"]


@pytest.mark.parametrize(("command", "arguments", "row"), SAVING, ids=[one[0] for one in SAVING])
async def test_an_act_that_cannot_be_saved(bed, tmp_path, command, arguments, row):
    """R15: `add`, `remove` or `weight` that cannot be saved is refused and changes nothing; without --save it is done."""
    (tmp_path / SAVED).mkdir()
    before = (bed.names, bed.running.backends[SECOND].weight)
    with pytest.raises(ControlError, match="nothing is changed, as it cannot be saved"):
        await bed.ask(command, **arguments, save=True)
    assert (bed.names, bed.running.backends[SECOND].weight, bed.overrides, bed.heard) == (*before, [], [])
    assert not bed.admins.leaves(SECOND)
    assert [text.partition(": ")[0] for text in bed.told] == [SAVED]
    assert await bed.ask(command, **arguments)
    assert bed.overrides == [(*row, False)]


async def test_an_unsaved_act_over_a_saved_one(bed, tmp_path):
    """R9: what an act undoes or replaces is not saved any more, whether that act is saved or not."""
    await bed.ask("add", address="192.0.2.13", save=True)
    await bed.ask("remove", backend="ns2", save=True)
    await bed.ask("weight", backend="192.0.2.11", weight=9, save=True)
    await bed.ask("weight", backend="192.0.2.11", weight=8)
    await bed.ask("add", address="ns2")
    await bed.ask("remove", backend="192.0.2.13")
    again = Bed(tmp_path)
    assert (again.overrides, again.names) == ([], ["192.0.2.11", "ns2"])


async def test_a_saved_removal_takes_the_weight_along(bed, tmp_path):
    """R9: a backend that is removed and comes back has the file's weight, after a restart as well."""
    await bed.ask("weight", backend="ns2", weight=9, save=True)
    await bed.ask("remove", backend="ns2", save=True)
    again = Bed(tmp_path)
    await again.ask("add", address="ns2")
    assert (again.running.backends[SECOND].weight, again.overrides) == (3, [])


async def test_a_weight_for_one_that_comes_back(bed, tmp_path):
    """R9: `add --weight --save` of a removed backend saves the weight; that the file lists the backend need not be saved."""
    await bed.ask("remove", backend="ns2")
    assert await bed.ask("add", address="ns2", weight=6, save=True)
    assert Bed(tmp_path).overrides == [("ns2", "weight 6", True)]


async def test_acts_that_are_saved_together(bed, tmp_path):
    """R15: acts of all kinds that are saved at the same time all hold, here and after a restart."""
    await asyncio.gather(
        bed.ask("add", address="192.0.2.13", save=True), bed.ask("weight", backend="ns2", weight=9, save=True),
        bed.set("drain", "192.0.2.11", save=True), bed.ask("add", address="192.0.2.14", save=True),
    )  # fmt: skip
    assert len(bed.overrides) == 4
    assert Bed(tmp_path).overrides == bed.overrides


async def test_the_room_goes_while_an_act_is_saved(tmp_path):
    """R15: if another backend takes the last room while one is being saved, that one is refused and is not saved either."""
    bed = Bed(tmp_path, capacity=4)
    saving = asyncio.ensure_future(bed.ask("add", address="192.0.2.13", save=True))
    await asyncio.sleep(0)
    assert await bed.ask("add", address="192.0.2.14")
    with pytest.raises(ControlError, match="the counters have room for 4 only"):
        await saving
    await bed.saved.settled()
    assert (bed.names, (tmp_path / SAVED).exists()) == (["192.0.2.11", "ns2", "192.0.2.14"], False)


async def test_the_service_goes_while_an_act_is_saved(bed, tmp_path):
    """R15: an act on a service that a reload takes away while it is being saved is refused, and is not saved either."""
    saving = asyncio.ensure_future(bed.ask("add", address="192.0.2.13", save=True))
    await asyncio.sleep(0)
    bed.reload(("[service.dns]", "[service.names]"))
    with pytest.raises(ControlError, match="dns is no longer in the file"):
        await saving
    await bed.saved.settled()
    assert (bed.overrides, (tmp_path / SAVED).exists()) == ([], False)


async def test_the_same_act_twice_at_once(bed):
    """R15: of two equal acts that are saved at the same time the second changes nothing and says so."""
    both = await asyncio.gather(*(bed.ask("add", address="192.0.2.13", save=True) for _ in range(2)))
    assert both == [True, False]
    assert (bed.names, len(bed.told)) == (["192.0.2.11", "ns2", "192.0.2.13"], 1)


async def test_added_again_while_it_drains(bed):
    """R9: a backend that an earlier file had and that is still leaving stays if it is added, with the defaults of the service."""
    bed.active[SECOND] = 1
    bed.reload(("quorum = 2", "quorum = 1"), ('{ address = "192.0.2.12", name = "ns2", weight = 3 }', '"192.0.2.14"'))
    bed.reload(("quorum = 2", "quorum = 1"), (', { address = "192.0.2.12", name = "ns2", weight = 3 }', ""))
    key = ("dns", "192.0.2.14")
    assert bed.admins.leaves(key)
    assert await bed.ask("add", address="192.0.2.14")
    assert (bed.admins.leaves(key), bed.admins.leaves(SECOND)) == (False, True)
    assert bed.overrides == [("192.0.2.14", "added", False)]
    assert not await bed.ask("remove", backend="ns2")  # it is leaving already
    assert await bed.ask("remove", backend="ns2", force=True)
    assert (bed.admins.acted(SECOND), bed.overrides) == ("maint", [("192.0.2.14", "added", False)])
