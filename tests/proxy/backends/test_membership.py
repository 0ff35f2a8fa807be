"""Which backends services have: what `add`, `remove` and `weight` change, what they refuse, and how it is undone."""

import asyncio
import re
from types import SimpleNamespace

import pytest

from proxy.backends.admin import SAVED, Admins
from proxy.backends.effective import Running
from proxy.backends.errors import FailedError
from proxy.backends.loops import LoopGuard
from proxy.backends.membership import Edit, Membership
from proxy.commands.admin import admin_handler
from proxy.commands.membership import MembershipCommands
from proxy.config.loader import load
from proxy.control.server import Request
from proxy.control.wire import BAD_REQUEST, ControlError
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
        self.told, self.heard, self.active = [], [], {}
        self.running = Running(load(path), Slots(16), Slots(capacity))
        self.down = set()
        self.admins = Admins(
            self.running, Document(DiskThread("disk"), directory, SAVED), self.tell, lambda _: None, self.open
        )
        self.membership = Membership(
            self.running, self.admins, self.tell,
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

    def ask(self, command, service="dns", **arguments):
        """Give a command; whether it changed anything."""
        request = Request(command, {"service": service, **arguments}, 1, 1000)
        answer = getattr(self.commands, command)(request)
        return answer["changed"] if answer else None

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
    assert bed.ask("add", address="192.0.2.13", weight=5)
    assert bed.names == ["192.0.2.11", "ns2", "192.0.2.13"]
    new, old = bed.running.backends[NEW], bed.running.backends[FIRST]
    assert (new.address, new.weight, new.max_connections) == ("192.0.2.13", 5, 7)
    assert [probe.model_copy(update={"address": "192.0.2.11"}) for probe in new.probes] == list(old.probes)
    assert bed.heard == [("dns", [3])]
    assert bed.told == ["dns/192.0.2.13: added with weight 5, by uid 1000"]
    assert set(bed.membership.added) == {NEW}
    assert not bed.ask("add", address="192.0.2.13")
    assert not bed.ask("add", address="192.0.2.13", weight=5)
    assert bed.ask("add", address="[2001:db8::13]:5353")
    assert bed.running.backends["dns", "[2001:db8::13]:5353"].port == 5353


async def test_one_that_is_removed(bed):
    """T16: a backend that is removed is drained, and gone once it has nothing open; then nothing of it is left but the act."""
    bed.active[SECOND] = 2
    assert bed.ask("remove", backend="192.0.2.12")
    assert (bed.admins.state(SECOND), bed.admins.leaves(SECOND)) == ("drain", True)
    bed.later()
    assert bed.names == ["192.0.2.11", "ns2"]
    assert not bed.ask("remove", backend="ns2")
    bed.active.clear()
    bed.later()
    assert (bed.names, bed.heard) == (["192.0.2.11"], [("dns", [])])
    assert bed.told[-1] == "dns/ns2: removed: nothing is open any more"
    assert not bed.admins.leaves(SECOND)
    assert [(row["backend"], row["act"]) for row in bed.membership.rows()] == [("ns2", "removed")]
    assert not bed.ask("remove", backend="ns2")


async def test_each_worker_has_heard_of_it(bed):
    """T16: a backend that has nothing open stays listed until no worker can have given it something after that."""
    bed.ask("remove", backend="ns2")
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
    bed.ask("remove", backend="ns2")
    bed.later(3599)
    assert bed.admins.acted(SECOND) == "drain"
    bed.later(3601)
    assert bed.admins.acted(SECOND) == "maint"
    bed.ask("add", address="ns2")
    assert (bed.admins.acted(SECOND), bed.membership.edits) == ("ready", 0)
    assert bed.ask("remove", backend="ns2", force=True)
    assert (bed.admins.acted(SECOND), bed.admins.state(SECOND)) == ("maint", "drain")
    assert bed.ask("remove", backend="ns2", force=True)  # to be sure


async def test_one_that_comes_back(bed):
    """R9: a removed backend that is added again is as the file has it, also while it is leaving, with another weight if told."""
    bed.active[SECOND] = 1
    bed.ask("remove", backend="ns2")
    assert bed.ask("add", address="192.0.2.12")
    assert (bed.admins.acted(SECOND), bed.heard, bed.membership.rows()) == ("ready", [], [])
    bed.active.clear()
    bed.later()
    assert "ns2" in bed.names
    bed.ask("remove", backend="ns2")
    bed.later()
    assert bed.ask("add", address="192.0.2.12", weight=9)
    assert bed.running.backends[SECOND].weight == 9
    assert [row["act"] for row in bed.membership.rows()] == ["weight 9"]


async def test_what_was_never_in_the_file_leaves_no_trace(bed):
    """R9: a backend that was added and is removed differs from nothing."""
    bed.ask("add", address="192.0.2.13")
    bed.ask("remove", backend="192.0.2.13")
    assert [row["act"] for row in bed.membership.rows()] == ["added"]
    bed.later()
    assert (bed.membership.edits, bed.names) == (0, ["192.0.2.11", "ns2"])


async def test_the_last_one_stays(bed):
    """H14: the last backend that could serve is removed only by force, the last of all never."""
    bed.down.add("192.0.2.11")
    with pytest.raises(ControlError, match="no other backend of dns can serve now: use --force"):
        bed.ask("remove", backend="ns2")
    assert bed.ask("remove", backend="192.0.2.11")  # which does not serve
    with pytest.raises(ControlError, match="dns would have no backend any more"):
        bed.ask("remove", backend="ns2", force=True)
    with pytest.raises(ControlError, match="web would have no backend any more"):
        bed.ask("remove", "web", backend="192.0.2.11")


async def test_a_weight(bed):
    """T24: a weight that an operator gives is shown and holds over a probe's, until it is cleared."""
    assert bed.ask("weight", backend="ns2", weight=0)
    assert (bed.running.backends[SECOND].weight, bed.running.weighed, bed.heard) == (0, {SECOND}, [SECOND])
    assert not bed.ask("weight", backend="ns2", weight=0)
    assert bed.ask("weight", backend="192.0.2.11", weight=1)  # the file's, but now the operator's
    bed.membership.clear(Edit("uid 0", 0.0))
    assert (bed.running.backends[SECOND].weight, bed.running.weighed, bed.membership.edits) == (3, set(), 0)


async def test_no_weight_for_the_last(bed):
    """T16: weight 0 gives a backend nothing new, as a drain does: the last that could serve gets it with --force alone."""
    bed.down = {"192.0.2.11"}
    with pytest.raises(ControlError, match="no other backend of dns can serve now: use --force"):
        bed.ask("weight", backend="ns2", weight=0)
    assert bed.ask("weight", backend="ns2", weight=1)
    assert bed.ask("weight", backend="192.0.2.11", weight=0)
    assert bed.ask("weight", backend="ns2", weight=0, force=True)


async def test_no_room_for_a_clear(tmp_path):
    """R15: where there is no room for all who come back `overrides clear` says so before anything is changed."""
    bed = Bed(tmp_path, capacity=4)
    bed.ask("remove", backend="ns2")
    bed.later()
    for last in (13, 14):
        bed.ask("add", address=f"192.0.2.{last}")
    for key in bed.running.backends:
        bed.running.slots[1].hold(key)
    with pytest.raises(FailedError, match="1 backends would come back and there is room for 0"):
        bed.membership.check_clear()
    assert sorted(bed.names) == ["192.0.2.11", "192.0.2.13", "192.0.2.14"]


async def test_all_is_undone(bed):
    """R9: cleared overrides bring back what was removed, and take out what was added, by its drain."""
    bed.ask("add", address="192.0.2.13")
    bed.ask("weight", backend="192.0.2.13", weight=4)
    bed.ask("remove", backend="ns2")
    bed.later()
    bed.ask("remove", backend="192.0.2.11")
    bed.active[NEW] = 1
    bed.membership.clear(Edit("uid 0", 0.0))
    assert sorted(bed.names) == ["192.0.2.11", "192.0.2.13", "ns2"]
    assert [key for key in bed.running.backends if bed.admins.leaves(key)] == [NEW]
    bed.active.clear()
    bed.later()
    assert (sorted(bed.names), bed.membership.edits) == (["192.0.2.11", "ns2"], 0)


async def test_an_act_on_one_that_leaves(bed):
    """R7: one that is to be removed is not ready at a word; `add` keeps it."""
    bed.active[SECOND] = 1
    bed.ask("remove", backend="ns2")
    with pytest.raises(ControlError, match="dns/ns2: to be removed; `steelyard add` keeps it"):
        async for _ in bed.act(Request("ready", {"service": "dns", "backend": "ns2"}, 1, 0)):
            pass


async def test_ready_everywhere_but_where_it_leaves(bed):
    """R7: a host that is ready again is so in every service but those that it is being removed from."""
    bed.active[FIRST] = 1
    bed.ask("remove", backend="192.0.2.11")
    for command in ("maint", "ready"):
        async for _ in bed.act(Request(command, {"service": "*", "backend": "192.0.2.11", "force": True}, 1, 0)):
            pass
    assert bed.admins.state(("web", "192.0.2.11")) == "ready"
    assert bed.admins.leaves(FIRST)


async def test_an_act_outlives_a_removal(bed):
    """R9: maintenance of a backend that is removed and added again is still what was wanted."""
    async for _ in bed.act(Request("maint", {"service": "dns", "backend": "ns2"}, 1, 0)):
        pass
    bed.ask("remove", backend="ns2")
    bed.later()
    assert bed.admins.rows() == []
    bed.ask("add", address="ns2")
    assert bed.admins.state(SECOND) == "maint"


async def test_acts_end_with_one_that_was_added(bed):
    """R9: what was wanted of an added backend is forgotten with it: one of the same address is as new."""
    bed.ask("add", address="192.0.2.13")
    async for _ in bed.act(Request("maint", {"service": "dns", "backend": "192.0.2.13", "save": True}, 1, 0)):
        pass
    bed.ask("remove", backend="192.0.2.13")
    bed.later()
    bed.ask("add", address="192.0.2.13")
    assert (bed.admins.state(NEW), bed.admins.rows()) == ("ready", [])


async def test_a_removal_where_nothing_can_be_saved(bed, tmp_path):
    """R9: a state directory that cannot be written keeps no removed backend half listed, and is told."""
    for last in (13, 14):
        bed.ask("add", address=f"192.0.2.{last}")
    async for _ in bed.act(Request("drain", {"service": "dns", "backend": "192.0.2.13", "save": True}, 1, 0)):
        pass
    (tmp_path / SAVED).unlink()
    (tmp_path / SAVED).mkdir()
    for last in (13, 14):
        bed.ask("remove", backend=f"192.0.2.{last}")
    bed.later()
    assert (bed.names, bed.membership.edits) == (["192.0.2.11", "ns2"], 0)
    await asyncio.gather(*bed.admins._forgetting)
    assert any("still has an act on a backend that is gone" in text for text in bed.told)
    bed.later()


async def test_an_earlier_deadline_for_one_that_leaves(bed):
    """T16: a drain with a deadline cuts what is leaving earlier, and is over when it stays after all."""
    bed.active[SECOND] = 1
    bed.ask("remove", backend="ns2")
    async for _ in bed.act(Request("drain", {"service": "dns", "backend": "ns2", "timeout": 5}, 1, 0)):
        pass
    bed.later(6)
    assert bed.admins.acted(SECOND) == "maint"
    bed.ask("add", address="ns2")
    assert (bed.admins.acted(SECOND), bed.admins.rows()) == ("ready", [])


async def test_the_files_order(bed):
    """H14: what comes back stands where the file has it, which decides between equals, what was added behind all of it."""
    bed.ask("add", address="192.0.2.13")
    bed.ask("remove", backend="192.0.2.11")
    bed.later()
    bed.ask("add", address="192.0.2.11")
    assert bed.names == ["192.0.2.11", "ns2", "192.0.2.13"]


async def test_no_twins(bed):
    """R7: a backend is the same however its address is written: it is there already, or comes back."""
    for address in ("2001:db8::13", "2001:DB8:0::13", "[2001:db8::13]"):
        assert bed.ask("add", address=address) == (address == "2001:db8::13")
    bed.ask("remove", backend="2001:db8::13")
    assert bed.ask("add", address="2001:DB8::13")
    assert bed.names == ["192.0.2.11", "ns2", "2001:db8::13"]
    for address in ("::ffff:192.0.2.11", "192.0.2.11:53", "[::ffff:192.0.2.12]:53"):
        assert not bed.ask("add", address=address)
    assert bed.ask("add", address="192.0.2.12:5353")  # another port is another server
    assert len(bed.names) == 4


@pytest.mark.parametrize(
    ("service", "address", "words"),
    [
        ("dns", "192.0.2.1", "192.0.2.1 is a listener of this service itself"),
        ("dns", "192.0.2.1:53", "192.0.2.1:53 is a listener of this service itself"),
        ("all", "127.0.0.1", "127.0.0.1 is a listener of this service itself"),
        ("all", "192.0.2.1:99", "192.0.2.1:99 is a listener of this service itself"),
        ("all", "192.0.2.77", "192.0.2.77 is a listener of this service itself"),
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
        bed.ask("add", "all", address="192.0.2.1:80")
    names = list(bed.running.backends)
    with pytest.raises(ControlError, match=re.escape(words)) as raised:
        bed.ask("add", service, address=address)
    assert raised.value.code == BAD_REQUEST
    assert list(bed.running.backends) == names


async def test_many_leave_together(bed):
    """R3: backends of a service that have left at the same look are one change of its list, and one word for the workers."""
    for last in range(20, 40):
        bed.ask("add", address=f"192.0.2.{last}")
    bed.heard.clear()
    bed.membership.clear(Edit("uid 0", 0.0))
    bed.later()
    assert (bed.heard, bed.names) == ([("dns", [])], ["192.0.2.11", "ns2"])


async def test_who_comes_back_where_there_is_no_room_yet(tmp_path):
    """R9: cleared overrides let those leave that were added; who has to wait for their room comes with the next try."""
    bed = Bed(tmp_path, capacity=4)
    bed.ask("add", address="192.0.2.13")
    bed.ask("remove", backend="ns2")
    bed.later()
    bed.ask("add", address="192.0.2.14")
    for room in (False, True):
        try:
            bed.membership.clear(Edit("uid 0", 0.0))
        except FailedError:
            assert not room
        bed.later()
    assert bed.names == ["192.0.2.11", "ns2"]


async def test_no_room(tmp_path):
    """A backend for which there are no counters is refused in words, and nothing has changed."""
    bed = Bed(tmp_path, capacity=4)
    bed.ask("add", address="192.0.2.13")
    with pytest.raises(ControlError, match="restart the daemon to make room"):
        bed.ask("add", address="192.0.2.14")
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
        bed.ask(command, **arguments)
    assert words in str(caught.value)
    assert (bed.heard, bed.told, bed.membership.edits) == ([], [], 0)
