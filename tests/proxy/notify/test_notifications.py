"""proxy.notify.notifications: what the master tells, keeps and counts; its process is a list of messages here."""

import asyncio
from types import SimpleNamespace

import pytest

from proxy.config.loader import load
from proxy.notify.changes import Known
from proxy.notify.notifications import NOTIFIED, Notifications
from proxy.processes.child import Identity
from proxy.processes.messages import notify as notify_messages
from proxy.records.disk_thread import DiskThread
from proxy.records.document import Document
from proxy.records.document import load as load_document

FILE = """
[service.dns]
listen = ["192.0.2.1:53/udp"]
protocol = "dns"
backends = ["192.0.2.11", "192.0.2.12"]
"""
PAGE = '[notify.page]\non = ["dns/*"]\ncommand = ["/bin/true", "x"]\n'
A, B = "dns/192.0.2.11", "dns/192.0.2.12"


def known(name, state):
    """Return the state of a backend."""
    return Known("backend", name, state, 1, "because")


class Bed:
    """A master's notifications; `sent` are the messages for the process, if it is `there`."""

    def __init__(self, directory, monkeypatch, text=PAGE):
        self.directory, self.sent, self.told, self.states = directory, [], [], []
        self.disk = DiskThread("disk")
        self.document = Document(self.disk, directory, NOTIFIED)
        self.document.content = load_document(directory, NOTIFIED)
        self.notifications = Notifications(
            self.config(text), Identity(None, None, "info", "text"), self.document, self.tell, lambda: self.states
        )
        self.kept = self.notifications._kept
        monkeypatch.setattr(self.kept, "start", lambda: None)
        monkeypatch.setattr(self.kept, "send", lambda message: self.there and self.sent.append(message))
        monkeypatch.setattr(type(self.kept), "ready", property(lambda _: SimpleNamespace() if self.there else None))
        self.there = True

    def config(self, text):
        """Return the configuration with these notifications."""
        path = self.directory / "f.toml"
        path.write_text(FILE + text)
        return load(path)

    def tell(self, kind, subject, text, **fields):
        """Note an event."""
        self.told.append((kind, subject, text, fields.get("level", "info")))

    @property
    def moves(self):
        """What was sent of changes: name of a notification, backend, state."""
        return [
            (name, move[1], move[2])
            for one in self.sent
            if isinstance(one, notify_messages.Changes)
            for name, moves in one.moves.items()
            for move in moves
        ]

    async def saved(self):
        """Return what a restart would know, once all is saved."""
        while self.notifications._saving is not None:
            await asyncio.wait([self.notifications._saving])
        return load_document(self.directory, NOTIFIED)


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Return what makes a bed."""
    return lambda *args: Bed(tmp_path, monkeypatch, *args)


async def test_what_changes_is_told_and_saved(make):
    """A change is passed on, and saved at once, so that no restart tells of it again."""
    bed = make()
    bed.notifications.begin()
    bed.notifications.note([known(A, "up"), known(B, "down")])
    bed.notifications.note([known(A, "up"), known(B, "down")])
    assert bed.moves == [("page", B, "DOWN")]
    assert await bed.saved() == {B: "down"}
    again = make()
    again.notifications.begin()
    again.notifications.note([known(A, "down"), known(B, "down")])
    assert again.moves == [("page", A, "DOWN")]


async def test_nothing_is_told_before_it_begins(make):
    """R12: while a predecessor tells, its successor does not; it then begins with what that has told."""
    bed = make()
    bed.notifications.note([known(B, "down")])
    bed.states = [known(A, "down"), known(B, "down")]
    bed.notifications.begin({B: "down"}, inherited=True)
    assert bed.moves == [("page", A, "DOWN")]
    assert bed.notifications.state == {A: "down", B: "down"}


async def test_a_predecessor_that_told_of_nothing(make):
    """After an earlier version, which told of no backends, what it knew is no news."""
    bed = make()
    bed.states = [known(A, "up"), known(B, "down")]
    bed.notifications.begin(None, inherited=True)
    assert bed.moves == []
    bed.notifications.note([known(B, "up")])
    assert bed.moves == [("page", B, "UP")]


async def test_a_successor_that_fails(make):
    """What changes while a successor tries is told by this daemon if that fails."""
    bed = make()
    bed.notifications.begin()
    bed.notifications.hold()
    bed.notifications.note([known(A, "down")])
    assert bed.moves == []
    bed.states = [known(A, "down")]
    bed.notifications.release()
    assert bed.moves == [("page", A, "DOWN")]


async def test_a_notification_that_is_new(make):
    """R2: what a reload adds is told of changes from then on, not of what has been so before."""
    bed = make("")
    bed.notifications.begin()
    bed.notifications.note([known(A, "down")])
    bed.states = [known(A, "down"), known(B, "up")]
    bed.notifications.change(bed.config(PAGE))
    assert bed.sent == [
        notify_messages.Notifies(
            [{"on": (), "to": (), "command": ("/bin/true", "x"), "fifo": None, "batch": False, "name": "page"}]
        )
    ]
    bed.notifications.note([known(A, "down"), known(B, "down")])
    assert bed.moves == [("page", B, "DOWN")]
    bed.notifications.change(bed.config(""))
    assert bed.sent[-1] == notify_messages.Notifies([])
    assert bed.notifications.counters() == {}


async def test_changes_wait_for_a_process(make):
    """What changes while there is no process waits for it, within a bound; the rest is counted."""
    bed = make()
    bed.there = False
    bed.notifications.begin()
    for number in range(10_003):
        bed.notifications.note([known(A, ("down", "up")[number % 2])])
    assert bed.notifications.counters()["page"] == {"passed": 0, "failed": 0, "dropped": 3, "waiting": 10_000}
    bed.there = True
    bed.notifications._ready()
    assert isinstance(bed.sent[0], notify_messages.Notifies)
    assert len(bed.moves) == 10_000
    assert bed.moves[-1] == ("page", A, "DOWN")
    assert bed.notifications.counters()["page"]["waiting"] == 0


async def test_what_is_lost_with_a_process_is_counted(make):
    """The changes that a process had and did not pass on before it died count as dropped, and an event tells it."""
    bed = make()
    bed.notifications.begin()
    bed.notifications.note([known(A, "down"), known(B, "down")])
    bed.notifications.note([known(A, "up")])
    bed.notifications._take(notify_messages.Counted({"page": {"passed": 1, "failed": 0, "dropped": 0, "waiting": 2}}))
    assert bed.notifications.counters()["page"] == {"passed": 1, "failed": 0, "dropped": 0, "waiting": 2}
    bed.notifications._ready()
    assert bed.notifications.counters()["page"] == {"passed": 1, "failed": 0, "dropped": 2, "waiting": 0}
    assert [one[:2] for one in bed.told] == [("notify", "page")]
    assert "2 changes may not have been told" in bed.told[0][2]


async def test_trouble_is_a_warning(make):
    """What a program says when it fails is an event of the notification, at warning level."""
    bed = make()
    bed.notifications.begin()
    bed.notifications._take(notify_messages.Trouble("page", "/bin/page ended with 1: no", 1.0))
    assert bed.told == [("notify", "page", "/bin/page ended with 1: no", "warning")]
