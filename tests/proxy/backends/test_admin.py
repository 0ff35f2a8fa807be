"""What operators want of backends: who is meant, what is remembered, what is refused."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from proxy.backends.admin import Admins
from proxy.backends.effective import Running
from proxy.backends.saved import SAVED, SavedActs
from proxy.commands.admin import admin_handler
from proxy.config.loader import load
from proxy.control.server import Request
from proxy.control.wire import ControlError
from proxy.records import document
from proxy.records.disk_thread import DiskThread
from proxy.records.document import Document
from proxy.stats.slots import Slots

FILE = """
[node]
name = "n"
workers = 1
state-dir = "{state}"
[service.dns]
listen = ["192.0.2.1:53/tcp"]
backends = ["192.0.2.11", {{ address = "192.0.2.12", name = "ns2" }}]
[service.web]
listen = ["192.0.2.1:80/tcp"]
drain-timeout = "never"
backends = ["192.0.2.11", {{ address = "192.0.2.13", admin = "drain" }}]
"""
FIRST, SECOND = ("dns", "192.0.2.11"), ("dns", "ns2")


class Bed:
    """The admin states of a daemon whose backends have what `active` says."""

    def __init__(self, directory):
        self.directory = directory
        path = directory / "steelyard.toml"
        path.write_text(FILE.format(state=directory))
        self.told, self.changed = [], []
        self.active = {}
        running = Running(load(path), Slots(16), Slots(64))
        self.services, self.backends = running.services, running.backends
        saved = Document(DiskThread("disk"), directory, SAVED)
        saved.content = document.load(directory, SAVED)
        self.stranded = []
        self.admins = Admins(
            running, SavedActs(saved, self.tell), self.tell, self.changed.append, lambda key: self.active.get(key, 0)
        )
        self.act = admin_handler(running, self.admins, SimpleNamespace(stranded_by=lambda _: self.stranded))

    def tell(self, kind, subject, text, **_):
        """Note an event."""
        self.told.append((kind, subject, text))

    def later(self, seconds):
        """Let so much time have passed."""
        self.admins.look(asyncio.get_running_loop().time() + seconds)

    async def ask(self, command, service="dns", backend="ns2", **more):
        """Give a command; its last answer."""
        wanted = {"service": service, "backend": backend, **more}
        async for answer in self.act(Request(command, wanted, 1, 1000)):
            last = answer
        return last


@pytest.fixture
async def bed(tmp_path):
    return Bed(tmp_path)


async def test_drained_and_ready_again(bed):
    """T16: an act is told with who and why, says whether it changed anything, and is undone by ready."""
    answer = await bed.ask("drain", reason="new disks")
    assert answer["changed"]
    assert [(row["backend"], row["admin"], row["by"], row["reason"]) for row in answer["backends"]] == [
        ("ns2", "drain", "uid 1000", "new disks")
    ]
    assert (bed.admins.state(SECOND), bed.admins.acted(SECOND), bed.admins.state(FIRST)) == ("drain", "drain", "ready")
    assert bed.told == [("admin", "dns/ns2", "drain, by uid 1000: new disks")]
    assert not (await bed.ask("drain"))["changed"]
    assert (await bed.ask("ready"))["changed"]
    assert bed.admins.overrides == {}
    assert bed.changed == [[SECOND], [SECOND]]


async def test_every_service_of_an_address(bed):
    """T16: "*" and an address mean the host wherever it serves."""
    answer = await bed.ask("maint", "*", "192.0.2.11")
    assert [(row["service"], row["admin"]) for row in answer["backends"]] == [("dns", "maint"), ("web", "maint")]
    assert set(bed.changed[0]) == {FIRST, ("web", "192.0.2.11")}


async def test_what_the_file_drains_can_be_ready(bed):
    """T16: an act holds over the file's own word, until it is cleared."""
    key = ("web", "192.0.2.13")
    assert bed.admins.state(key) == "drain"
    assert (await bed.ask("ready", *key))["changed"]
    assert (bed.admins.state(key), bed.admins.overrides[key].admin) == ("ready", "ready")
    bed.admins.clear("uid 0")
    assert (bed.admins.state(key), bed.admins.rows()) == ("drain", [])


async def test_the_deadline_cuts(bed):
    """T16: what is left at the deadline of an act is cut, is told, and a new drain begins anew."""
    bed.active[SECOND] = 3
    await bed.ask("drain", timeout=0.05)
    bed.later(0.04)
    assert bed.admins.acted(SECOND) == "drain"
    bed.later(0.06)
    assert (bed.admins.state(SECOND), bed.admins.acted(SECOND)) == ("drain", "maint")
    assert bed.told[-1] == ("admin", "dns/ns2", "drained for 50ms, 3 left: cut")
    await bed.ask("ready")
    await bed.ask("drain")
    assert bed.admins.acted(SECOND) == "drain"


@pytest.mark.parametrize("wanted", [{}, {"timeout": 7200}], ids=["nobody says", "longer"])
async def test_drain_timeout_cuts(bed, wanted):
    """T16: what a drained backend has left at the service's drain-timeout is cut, whoever wants longer; "never" is never."""
    await bed.ask("drain", **wanted)
    bed.later(3599)
    assert bed.admins.acted(SECOND) == "drain"
    bed.later(3601)
    assert bed.admins.acted(SECOND) == "maint"
    key = ("web", "192.0.2.11")
    await bed.ask("drain", *key)
    bed.later(1e9)
    assert bed.admins.acted(key) == "drain"


async def test_a_second_drain_has_its_whole_time(bed):
    """T16: a drain that follows one that was taken back has a deadline of its own, not the first one's."""
    await bed.ask("drain", timeout=0.3)
    await bed.ask("ready")
    await bed.ask("drain")
    bed.later(3000)
    assert bed.admins.acted(SECOND) == "drain"


async def test_ready_ends_the_deadline(bed):
    """T16: a backend that is ready again before the deadline is not cut."""
    await bed.ask("drain", timeout=0.05)
    await bed.ask("ready")
    bed.later(1)
    assert bed.admins.acted(SECOND) == "ready"


async def test_waiting(bed):
    """T16: `wait` answers first how long it may take, and then when nothing is open or somebody makes it ready."""
    bed.active[SECOND] = 1
    answers = bed.act(Request("drain", {"service": "dns", "backend": "ns2", "wait": True}, 1, 0))
    assert await anext(answers) == {"timeout": 3600.0, "more": True}
    rest = asyncio.ensure_future(anext(answers))
    await asyncio.sleep(0.25)
    assert not rest.done()
    bed.active[SECOND] = 0
    assert (await asyncio.wait_for(rest, 5))["backends"][0]["active"] == 0


async def test_saved_acts_survive(bed, tmp_path):
    """R9: what was to be saved holds after a restart, with who and why; what was not is gone."""
    await bed.ask("maint", reason="new disks", save=True)
    await bed.ask("drain", *FIRST)
    again = Bed(tmp_path)
    assert (again.admins.state(SECOND), again.admins.state(FIRST)) == ("maint", "ready")
    assert again.admins.overrides[SECOND].reason == "new disks"
    assert not (await again.ask("maint", save=True))["changed"]
    await again.ask("ready")
    assert Bed(tmp_path).admins.overrides == {}


async def test_nothing_is_written_that_was_not_saved(bed, tmp_path):
    """R9: acts that end with the daemon leave no file."""
    await bed.ask("drain")
    assert not (tmp_path / SAVED).exists()


async def test_saved_acts_of_an_earlier_version(bed, tmp_path):
    """R9: the admin states that a version without `add --save` saved hold, over what the file says at that start."""
    row = {"service": "dns", "backend": "ns2", "admin": "maint", "by": "uid 7", "reason": None, "at": 5.0}
    document.save(tmp_path, SAVED, [row, {**row, "service": "web", "backend": "192.0.2.13", "admin": "ready"}])
    admins = Bed(tmp_path).admins
    assert (admins.state(SECOND), admins.overrides[SECOND].by) == ("maint", "uid 7")
    assert [one.filed for one in admins.values.values()] == ["ready", "drain"]


@pytest.mark.parametrize(
    "text", ["[{}]", '[{"service": "dns", "backend": "ns2", "admin": "off", "by": "", "at": 0}]', "[1]"]
)
async def test_a_strange_file_is_refused(tmp_path, text):
    """R9: saved acts that cannot be read are an error at the start, not forgotten."""
    document.save(tmp_path, SAVED, json.loads(text))
    with pytest.raises(document.StateError, match="invalid override"):
        Bed(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"service": "ntp"}, 'there is no service "ntp": only dns, web'),
        ({"backend": "ns9"}, 'dns does not have a backend "ns9": did you mean "ns2"'),
        ({"backend": "x"}, 'dns does not have a backend "x": only 192.0.2.11, ns2'),
        ({"service": "*", "backend": "ns9"}, 'no service has a backend "ns9"'),
        ({"service": None}, "there is no service"),
        ({"backend": ["ns2"]}, "does not have a backend"),
        ({"timeout": -1}, "timeout must be a number of seconds"),
        ({"timeout": "5s"}, "timeout must be a number of seconds"),
        ({"timeout": True}, "timeout must be a number of seconds"),
        ({"wait": "yes"}, "wait must be true or false"),
        ({"save": 1}, "save must be true or false"),
        ({"reason": "x" * 201}, "reason must have at most 200 characters"),
        ({"reason": 5}, "reason must have at most 200 characters"),
    ],
)
async def test_mistakes_change_nothing(bed, arguments, words):
    """R7: a command that makes no sense is refused in words, and does nothing."""
    with pytest.raises(ControlError, match=words.replace("*", r"\*")):
        await bed.ask("drain", **arguments)
    assert (bed.changed, bed.told) == ([], [])


async def test_saving_later_keeps_the_deadline(bed):
    """T16: a drain that is to hold over a restart as well is cut when that was promised."""
    bed.active[SECOND] = 1
    await bed.ask("drain", timeout=0.1)
    assert (await bed.ask("drain", save=True))["backends"][0]["saved"]
    bed.later(0.2)
    assert bed.admins.acted(SECOND) == "maint"


async def test_a_deadline_is_a_change(bed):
    """T16: a deadline for what is drained already changes something, and is told with who asked."""
    await bed.ask("drain")
    assert (await bed.ask("drain", timeout=5))["changed"]
    assert bed.told[-1][2] == "the remaining connections are cut after 5s, by uid 1000"


async def test_what_cannot_be_saved_is_not_done(bed, tmp_path):
    """R15: an act that was to be saved and cannot be is refused, is told, and has changed nothing; without --save it is done."""
    (tmp_path / SAVED).mkdir()
    with pytest.raises(
        ControlError, match=r"nothing is changed, as it cannot be saved: .*overrides\.json: Is a directory"
    ):
        await bed.ask("maint", save=True)
    assert (bed.admins.state(SECOND), bed.changed, bed.admins.rows()) == ("ready", [], [])
    assert [subject for _, subject, _ in bed.told] == [SAVED]
    assert (await bed.ask("maint"))["changed"]


async def test_what_cannot_be_forgotten_stays(bed, tmp_path):
    """R15: where saved acts cannot be removed, `ready` does not do half of it."""
    await bed.ask("maint", save=True)
    (tmp_path / SAVED).unlink()
    (tmp_path / SAVED).mkdir()
    bed.changed.clear()
    with pytest.raises(ControlError, match="nothing is changed"):
        await bed.ask("ready")
    assert (bed.admins.state(SECOND), bed.changed) == ("maint", [])


async def test_acts_that_come_together(bed, tmp_path):
    """R15: of two acts that are saved at the same time both hold, here and after a restart."""
    await asyncio.gather(bed.ask("maint", save=True), bed.ask("drain", *FIRST, save=True))
    assert (bed.admins.state(SECOND), bed.admins.state(FIRST)) == ("maint", "drain")
    again = Bed(tmp_path)
    assert (again.admins.state(SECOND), again.admins.state(FIRST)) == ("maint", "drain")


@pytest.mark.parametrize("save", [False, True])
async def test_the_last_that_could_serve(bed, tmp_path, save):
    """T16: an act that leaves a service with nobody is refused without --force, whole, and names the service."""
    bed.stranded = ["web", "dns"]
    with pytest.raises(ControlError, match="no other backend of dns, web can serve now: use --force to do it anyway"):
        await bed.ask("maint", "*", "192.0.2.11", save=save)
    assert (bed.changed, bed.told, (tmp_path / SAVED).exists()) == ([], [], False)
    assert (await bed.ask("maint", "*", "192.0.2.11", save=save, force=True))["changed"]


async def test_what_holds_already_is_not_refused(bed):
    """T16: who is drained already is drained without --force once more, and `ready` never needs it."""
    await bed.ask("drain")
    asked = []
    running = SimpleNamespace(services=bed.services, backends=bed.backends)
    readiness = SimpleNamespace(stranded_by=lambda keys: asked.append([*keys]) or [])
    bed.act = admin_handler(running, bed.admins, readiness)
    await bed.ask("drain")
    await bed.ask("ready")
    assert all(keys == [] for keys in asked)
