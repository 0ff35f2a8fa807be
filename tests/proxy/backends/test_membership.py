"""Which backends services have: what `add`, `remove` and `weight` change, what they refuse, and how it is undone."""

import asyncio
import re
from types import SimpleNamespace

import pytest

from proxy.backends.admin import Admins
from proxy.backends.effective import Running
from proxy.backends.errors import FailedError
from proxy.backends.loops import LoopGuard
from proxy.backends.membership import Edit, Membership
from proxy.backends.saved import SAVED, SavedActs
from proxy.commands.admin import admin_handler
from proxy.commands.membership import MembershipCommands
from proxy.config.loader import load
from proxy.control.server import Request
from proxy.control.wire import BAD_REQUEST, ControlError
from proxy.records import document
from proxy.records.disk_thread import DiskThread
from proxy.records.document import Document
from proxy.stats.slots import Slots

FILE = """
[node]
name = "n"
workers = 1
state-dir = "{state}"
[probe.answers]
type = "dns"
query = "example.net SOA"
[service.dns]
listen = ["192.0.2.1:53/udp"]
protocol = "dns"
quorum = 2
backends = ["192.0.2.11", {{ address = "192.0.2.12", name = "ns2", weight = 3 }}]
backend-defaults = {{ max-connections = 7 }}
probe = "answers"
[service.web]
listen = ["192.0.2.1:80,81/tcp"]
probe = {{ type = "tcp", port = 80 }}
backends = ["192.0.2.11"]
"""
EVERYWHERE = """
[service.all]
listen = ["*:99/tcp"]
backends = ["192.0.2.11"]
"""
FIRST, SECOND, NEW = ("dns", "192.0.2.11"), ("dns", "ns2"), ("dns", "192.0.2.13")


class Bed:
    """A daemon's backends, of which all could serve, with `active` open on them."""

    def __init__(self, directory, capacity=64, more=""):
        path = directory / "f.toml"
        path.write_text(FILE.format(state=directory) + more)
        self.told, self.heard, self.changed, self.active = [], [], [], {}
        self.running = Running(load(path), Slots(16), Slots(capacity))
        self.down = set()
        self.document = Document(DiskThread("disk"), directory, SAVED)
        self.document.content = document.load(directory, SAVED)
        self.saved = SavedActs(self.document, self.tell)
        self.admins = Admins(self.running, self.saved, self.tell, self.changed.append, self.open)
        self.membership = Membership(
            self.running, self.admins, self.saved, self.tell,
            relisted=lambda service, slots: self.heard.append((service, list(slots))),
            reweighed=self.heard.append,
            stranded=self.stranded,
            active=self.open,
            leads_back=LoopGuard(self.running, lambda: {"192.0.2.77"}, self.tell, self.heard.append).would_lead_back,
        )  # fmt: skip

        self.commands = MembershipCommands(self.running, self.admins, self.membership)
        self.act = admin_handler(self.running, self.admins, SimpleNamespace(stranded_by=self.stranded))

    def stranded(self, going):
        """Which services somebody could serve, and nobody without these."""
        able = {key for key in self.running.backends if key[1] not in self.down and not self.admins.leaves(key)}
        return [name for name in {key[0] for key in going} if {k for k in able if k[0] == name} <= {*going} and able]

    def tell(self, kind, subject, text, **_):
        """Note an event."""
        self.told.append(f"{subject}: {text}")

    def open(self, key):
        """How much a backend has open."""
        return self.active.get(key, 0)

    async def ask(self, command, service="dns", **arguments):
        """Give a command; whether it changed anything."""
        request = Request(command, {"service": service, **arguments}, 1, 1000)
        return (await getattr(self.commands, command)(request))["changed"]

    async def set(self, command, backend="ns2", **arguments):
        """Give a command about the admin state of a backend."""
        request = Request(command, {"service": "dns", "backend": backend, **arguments}, 1, 1000)
        async for _ in self.act(request):
            pass

    def later(self, seconds=1.5):
        """Let the master have a regular look now, and another one so many seconds later."""
        now = asyncio.get_running_loop().time()
        for moment in (now, now + seconds):
            self.admins.look(moment)
            self.membership.look(moment)

    @property
    def names(self):
        """The backends of the service."""
        return [name for of, name in self.running.backends if of == "dns"]


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
    with pytest.raises(ControlError, match="restart the daemon to make room"):
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


# -- another file

DROPPED = (("quorum = 2", "quorum = 1"), (', { address = "192.0.2.12", name = "ns2", weight = 3 }', ""))


def reload(bed, directory, *changes, more=""):
    """Put the file with these replacements into force, as a reload does; what it makes of the acts."""
    text = FILE.format(state=directory) + more
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = directory / "g.toml"
    path.write_text(text)
    new = load(path)
    rebase = bed.membership.rebase(new)
    bed.running.room_for(rebase.services)
    bed.running.replace_all(new, rebase.services)
    bed.membership.commit(rebase)
    return rebase


async def test_acts_survive_another_file(bed, tmp_path):
    """R9: what the file did not change of what operators set is in force after a reload as well, in the file's order."""
    await bed.ask("add", address="192.0.2.13", weight=5)
    await bed.ask("weight", backend="ns2", weight=9)
    await bed.set("drain", "192.0.2.11")
    bed.told.clear()
    rebase = reload(
        bed, tmp_path, ("quorum = 2", "quorum = 1"), ("max-connections = 7", "max-connections = 8"),
        ('["192.0.2.11", {', '["192.0.2.10", "192.0.2.11", {'),
    )  # fmt: skip
    assert (rebase.ended, rebase.retired, rebase.returned, bed.told) == ([], [], [], [])
    assert bed.names == ["192.0.2.10", "192.0.2.11", "ns2", "192.0.2.13"]
    assert (bed.running.backends[SECOND].weight, bed.running.weighed) == (9, {SECOND})
    assert (bed.running.backends[NEW].max_connections, bed.running.backends[NEW].weight) == (8, 5)
    assert bed.admins.state(FIRST) == "drain"
    assert len(bed.membership.rows()) + len(bed.admins.rows()) == 3


async def test_another_file_ends_acts(bed, tmp_path):
    """R9: an act ends with the file's value that it replaced, and is told with the reason; the saved ones are forgotten."""
    await bed.ask("weight", backend="ns2", weight=9, save=True)
    await bed.set("maint", save=True)
    await bed.ask("add", address="192.0.2.13", save=True)
    bed.told.clear()
    bed.changed.clear()
    bed.heard.clear()
    changes = ("weight = 3 }", 'weight = 4, admin = "drain" }, "192.0.2.13"')
    assert len(reload(bed, tmp_path, changes).ended) == 3
    assert bed.told == [
        'dns/192.0.2.13: "added" has ended: the service has it from the file now',
        'dns/ns2: "weight 9" has ended: the file\'s weight is 4 now, no longer 3',
        'dns/ns2: "maint" has ended: the file says "drain" now, no longer "ready"',
    ]
    assert (bed.running.backends[SECOND].weight, bed.running.weighed, bed.heard) == (4, set(), [SECOND])
    assert (bed.admins.state(SECOND), bed.changed, bed.membership.edits) == ("drain", [[SECOND]], 0)
    await bed.saved.settled()
    assert not (tmp_path / SAVED).exists()


async def test_a_backend_that_the_file_no_longer_has(bed, tmp_path):
    """R9: what the file drops is drained as what is removed, is no override, and is gone when nothing is open there."""
    bed.active[SECOND] = 1
    assert reload(bed, tmp_path, *DROPPED).retired == [SECOND]
    assert (bed.names, bed.admins.state(SECOND), bed.admins.leaves(SECOND)) == (["192.0.2.11", "ns2"], "drain", True)
    assert (bed.membership.edits, bed.told) == (
        0,
        ["dns/ns2: no longer wanted by the file: 1 open, may finish until drain-timeout"],
    )
    assert bed.changed == [[SECOND]]
    bed.later(3599)
    assert bed.admins.acted(SECOND) == "drain"
    assert reload(bed, tmp_path, *DROPPED).retired == []  # it is leaving already, and its deadline stays
    bed.later(3601)
    assert bed.admins.acted(SECOND) == "maint"
    bed.active.clear()
    bed.later()
    assert (bed.names, bed.membership.edits) == (["192.0.2.11"], 0)


async def test_a_backend_that_the_file_has_again(bed, tmp_path):
    """R9: what an earlier file dropped and the next one has again stays, as that file has it."""
    bed.active[SECOND] = 1
    reload(bed, tmp_path, *DROPPED)
    assert reload(bed, tmp_path, ("weight = 3", "weight = 8")).returned == [SECOND]
    assert (bed.admins.acted(SECOND), bed.admins.leaves(SECOND), bed.running.backends[SECOND].weight) == (
        "ready", False, 8,
    )  # fmt: skip
    bed.active.clear()
    bed.later()
    assert "ns2" in bed.names


async def test_a_removal_over_another_file(bed, tmp_path):
    """R9: what was removed stays removed over a reload, leaving or gone, until the file drops it as well."""
    bed.active[SECOND] = 1
    await bed.ask("remove", backend="ns2")
    rebase = reload(bed, tmp_path, ("weight = 3", "weight = 4"))
    assert (rebase.ended, rebase.retired, rebase.returned) == ([], [], [])
    assert bed.admins.leaves(SECOND)
    bed.active.clear()
    bed.later()
    rebase = reload(bed, tmp_path, ("weight = 3", "weight = 5"))
    assert (bed.names, [row["act"] for row in bed.membership.rows()]) == (["192.0.2.11"], ["removed"])
    await bed.ask("add", address="ns2")
    assert bed.running.backends[SECOND].weight == 5
    await bed.ask("remove", backend="ns2")
    bed.later()
    reload(bed, tmp_path, *DROPPED)
    assert bed.membership.edits == 0


async def test_a_service_that_the_file_no_longer_has(bed, tmp_path):
    """R9: acts on a service that the file drops end with it, those that were leaving included."""
    await bed.ask("add", address="192.0.2.13")
    await bed.set("maint", "192.0.2.13")
    bed.active[SECOND] = 1
    await bed.ask("remove", backend="ns2")
    rebase = reload(bed, tmp_path, ("[service.dns]", "[service.names]"))
    assert (NEW, '"added" has ended: the service is no longer in the file') in rebase.ended
    assert (bed.membership.edits, bed.admins.rows(), [*bed.admins.leaving]) == (0, [], [])
    bed.later()
    assert ("names", "ns2") in bed.running.backends


async def test_an_added_backend_that_would_lead_back(bed, tmp_path):
    """R9: an added backend that is a listener of this host with another file is dropped, and the reload is not refused."""
    await bed.ask("add", "web", address="192.0.2.77:99")
    key = ("web", "192.0.2.77:99")
    back = EVERYWHERE.replace('"192.0.2.11"', '"192.0.2.1:80"')
    rebase = reload(bed, tmp_path, more=back)
    why = "192.0.2.77:99 is a listener of [service.all], which leads back here (web -> all -> web)"
    assert (rebase.retired, [at for at, _ in rebase.ended]) == ([key], [key])
    assert f'"added" has ended: {why}' in rebase.ended[0][1]


async def test_an_act_while_a_reload_is_prepared(bed, tmp_path):
    """R9: a reload can tell that operators have acted since it was prepared."""
    path = tmp_path / "f.toml"
    for act in (bed.ask("weight", backend="ns2", weight=9), bed.set("drain"), bed.ask("remove", backend="ns2")):
        rebase = bed.membership.rebase(load(path))
        assert bed.membership.is_current(rebase)
        await act
        assert not bed.membership.is_current(rebase)
