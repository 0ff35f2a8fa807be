"""Tests of when services are opened; that verdicts open them is in the master's tests."""

import asyncio

import pytest

from proxy.backends.admin import Admins
from proxy.backends.effective import Running
from proxy.backends.readiness import Readiness
from proxy.backends.saved import SAVED, SavedActs
from proxy.config.loader import load
from proxy.processes.messages.health import Probed
from proxy.records.disk_thread import DiskThread
from proxy.records.document import Document
from proxy.stats.slots import Slots
from proxy.workers import opening as module
from proxy.workers.listeners import Listeners
from proxy.workers.opening import Opening

FILE = """
[node]
name = "n"
workers = 1
[service.a]
listen = ["127.0.0.1:5353/udp"]
backends = ["192.0.2.1"]
probe = { type = "none" }
[service.b]
listen = ["127.0.0.1:5354/udp"]
backends = ["192.0.2.1"]
"""


class Bed:
    """Two services of which no verdict is known, and what became of them."""

    def __init__(self, path):
        path.write_text(FILE)
        self.told, self.opened, self.event = [], 0, asyncio.Event()
        running = Running(load(path), Slots(16), Slots(64))
        saved = Document(DiskThread("disk"), path.parent, SAVED)
        admins = Admins(running, SavedActs(saved, self.tell), self.tell, lambda _: None, lambda _: 0)
        self.running = running
        self.readiness = readiness = Readiness(running, self.tell, lambda _: None, self.ready, admins)
        self.opening = Opening(running, Listeners(), readiness, self.tell, self.open)

    def ready(self, services):
        """Open the services whose verdicts are known, as the master does."""
        self.opening.known(services)

    def tell(self, kind, subject, text, **fields):
        """Note an event."""
        self.told.append((kind, subject, text))

    def open(self):
        """Count the changes."""
        self.opened += 1
        self.event.set()


@pytest.fixture
async def bed(tmp_path):
    return Bed(tmp_path / "steelyard.toml")


async def test_a_service_without_verdicts_opens_late(bed):
    """H1: a service of which no verdict comes is opened after a while all the same, once, with an event that says why."""
    bed.opening.known(["a", "b"])
    assert (bed.opening.services, bed.opened) == (set(), 0)
    bed.opening.all(3.0)
    bed.opening.all(10.0)
    assert (bed.opening.services, bed.opened) == ({"a", "b"}, 1)
    assert [(kind, subject) for kind, subject, _ in bed.told] == [("service", "a"), ("service", "b")]
    assert bed.told[0][2].startswith("no verdict after 3 s on 192.0.2.1")


async def test_a_service_that_cannot_be_judged_is_told(bed):
    """H8: a service that opens because the wait is over has its event, also if its backends are taken as up from then on."""
    bed.readiness.probed(Probed("b/192.0.2.1", "unknown", "login refused", 1.0, unjudged=True))
    await asyncio.sleep(0)
    bed.opening.all(3.0)
    late = [text for kind, subject, text in bed.told if (kind, subject) == ("service", "b")]
    assert bed.opening.services == {"a", "b"}
    assert late == ["no verdict after 3 s on 192.0.2.1 (login refused): all taken as up: tier 0 serves"]


async def test_new_services_of_a_reload(bed, monkeypatch):
    """A service that a reload adds opens FIRST_VERDICTS seconds later; one that it removes is not open any more."""
    monkeypatch.setattr(module, "FIRST_VERDICTS", 0.0)
    bed.opening.all(3.0)
    bed.event.clear()
    (a, b) = bed.running.config.services
    new = b.model_copy(update={"name": "c"})
    file = bed.running.file.model_copy(update={"services": (a, new)})
    bed.running.replace_all(file, (a, new))
    bed.readiness.reconfigured(["b", "c"], [("c", "192.0.2.1")])
    bed.opening.changed()
    assert bed.opening.services == {"a"}
    async with asyncio.timeout(5):
        await bed.event.wait()
    assert bed.opening.services == {"a", "c"}


async def test_the_wait_begins_with_the_first_probe(bed, monkeypatch):
    """H1: the services wait FIRST_VERDICTS seconds from the moment that the health process probes."""
    monkeypatch.setattr(module, "FIRST_VERDICTS", 0.0)
    bed.opening.start()
    await asyncio.sleep(0)
    assert bed.opened == 0
    bed.opening.probing()
    async with asyncio.timeout(5):
        await bed.event.wait()
    assert bed.opening.services == {"a", "b"}


async def test_nothing_is_polled_while_a_predecessor_does(bed):
    """R12: until a predecessor lets go no listener is polled; then all are that it had opened, and what opened since."""
    bed.opening._listeners._members = {}
    bed.opening.hold()
    bed.opening.all(1.0)
    assert bed.opening.services == {"a", "b"}
    assert bed.opening.listeners == ()
    opened = bed.opened
    bed.opening.release(["b", "gone"])
    assert (bed.opening.services, bed.opened) == ({"a", "b"}, opened + 1)
    assert bed.opening.listeners == []
