"""Tests of who asks again what a dead worker had in flight."""
# ruff: noqa: PTH208 - as in the tests of the supervisor

import os

import pytest

from proxy.processes.messages import worker as worker_messages
from proxy.relay.dns import journal
from proxy.workers.inheritance import Inheritance
from proxy.workers.place import Place


class Child:
    """A worker's process that is always ready and keeps what it is sent."""

    ready = alive = True

    def __init__(self):
        self.sent = []

    def send(self, message, fds):
        """Keep a message."""
        assert isinstance(message, worker_messages.Replay)
        self.sent.append((message.number, *fds))


def place(index):
    """Return a place with a live worker and the journal of one query."""
    one = Place(index)
    one.child, one.journal = Child(), journal.create()
    kept = journal.Journal(one.journal)
    kept.note(9, ("192.0.2.1", 53), b"query")
    kept.close()
    return one


@pytest.fixture
def inheritance():
    before = len(os.listdir("/proc/self/fd"))
    one = Inheritance()
    yield one
    one.close()
    assert len(os.listdir("/proc/self/fd")) == before


def dies(inheritance, one):
    """Let a worker die."""
    one.child = None
    inheritance.leave(one)


def test_the_first_able_worker_inherits_once(inheritance):
    """A dead worker's journal goes to the first able worker, and to nobody again once that has confirmed it."""
    dead, heir, other = map(place, range(3))
    journals = dead.journal
    dies(inheritance, dead)
    inheritance.hand_on([dead, heir, other])
    inheritance.hand_on([dead, heir, other])
    assert (heir.child.sent, other.child.sent) == ([(1, journals)], [])
    assert not inheritance.confirmed(other, 1)
    assert inheritance.confirmed(heir, 1)
    assert not inheritance.confirmed(heir, 1)
    dies(inheritance, heir)
    inheritance.hand_on([other])
    assert [number for number, _ in other.child.sent] == [2]
    dies(inheritance, other)


def test_an_heir_that_dies_leaves_both_journals(inheritance):
    """The journal that an heir has not confirmed goes to the next one together with the heir's own."""
    dead, heir, last = map(place, range(3))
    dies(inheritance, dead)
    inheritance.hand_on([heir])
    dies(inheritance, heir)
    inheritance.hand_on([heir, last])
    assert inheritance.waits_for(last) == [2, 3]
    dies(inheritance, last)


def test_journals_wait_for_an_able_worker(inheritance):
    """A journal waits as long as no worker is able; one without queries is closed and given to nobody."""
    dead, idle, heir = place(0), Place(1), place(2)
    dies(inheritance, dead)
    inheritance.hand_on([idle])
    idle.journal = journal.create()
    dies(inheritance, idle)
    inheritance.hand_on([heir])
    assert inheritance.waits_for(heir) == [1]
    dies(inheritance, heir)
