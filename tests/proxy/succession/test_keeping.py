"""proxy.succession.keeping: what the service manager keeps for the next life of the daemon, and how that is found again."""

import json
import os
import socket
from pathlib import Path

import pytest

from proxy.host.service_manager import ServiceManager
from proxy.stats import sealed
from proxy.stats.layout import Layout
from proxy.stats.translation import Shape
from proxy.succession.document import DocumentError, FormerRow, Late, ListenerRow, ShapeRow, State
from proxy.succession.keeping import Keeping, Kept


class Manager(ServiceManager):
    """A manager that notes what it is to keep."""

    def __init__(self, kept=64):
        super().__init__("@nobody", kept=kept)
        self.kept, self.calls = {}, []

    def store(self, name, fds):
        """Keep copies."""
        self.calls.append(f"+{name}")
        self.kept.setdefault(name, []).extend(os.dup(fd) for fd in fds)

    def unstore(self, name):
        """Let go."""
        self.calls.append(f"-{name}")
        for fd in self.kept.pop(name, ()):
            os.close(fd)


class Estate:
    """A daemon with one listener of two members and one worker."""

    def __init__(self):
        self.group = [socket.socket() for _ in range(2)]
        self.memory = sealed.zeroed("x", 8)
        self.state = State(
            pid=1,
            shape=ShapeRow.model_validate(Shape.of(Layout(1, 1)).tree()),
            listeners=(ListenerRow(number=0, transport="tcp", address="127.0.0.1", port=5, members=2),),
            lives=1,
        )
        self.lives = [1]

    def brief(self):
        """Return the documents of `Estate`."""
        fds = {f"listener-0-{index}": sock.fileno() for index, sock in enumerate(self.group)}
        return self.state, fds | {"store": self.memory, "lock": self.memory, "control": self.memory}

    def brief_late(self):
        """Return the workers."""
        fds = {f"{kind}-{life}": self.memory for kind in ("column", "journal") for life in self.lives}
        rows = tuple(FormerRow(life=life, index=0, pid=7) for life in self.lives)
        return Late(workers=rows), fds | {"base": self.memory}

    def close(self):
        """Close the sockets."""
        for sock in self.group:
            sock.close()
        os.close(self.memory)


@pytest.fixture
def estate():
    made = Estate()
    yield made
    made.close()


@pytest.fixture
def manager():
    made = Manager()
    yield made
    for name in list(made.kept):
        made.unstore(name)


def restored(manager):
    """Return what the next life of the daemon would find."""
    return Kept({name: [os.dup(fd) for fd in fds] for name, fds in manager.kept.items()})


def test_what_is_kept_is_found(manager, estate):
    """The next life finds the listeners, the memory and what says what they are, and neither lock nor control socket."""
    Keeping(manager, estate, {}).look()
    assert not {"lock", "control"} & manager.kept.keys()
    kept = restored(manager)
    assert kept.state.listeners == estate.state.listeners
    assert [row.life for row in kept.late.workers] == [1]
    ((number, group),) = kept.listeners().values()
    assert (number, len(group)) == (0, 2)
    for sock in group:
        sock.close()
    for name in ("base", "store", "column-1", "journal-1"):
        os.close(kept.take(name))
    assert kept.take("base") == -1
    kept.drop()


def test_nothing_is_said_twice(manager, estate):
    """What has not changed is not kept again."""
    keeping = Keeping(manager, estate, {})
    keeping.look()
    before = len(manager.calls)
    keeping.look()
    assert len(manager.calls) == before


def test_a_whole_document_is_there_at_any_time(manager, estate):
    """Of the two documents one is always whole: the older one goes when the newer one is kept."""
    keeping = Keeping(manager, estate, {})
    for life in (2, 3):
        keeping.look()
        estate.lives = [life]
        manager.calls.clear()
        keeping.look()
        (new,) = [one for one in manager.calls if one.startswith("+state")]
        (old,) = [one for one in manager.calls if one.startswith("-state") and one[1:] != new[1:]]
        assert manager.calls.index(new) < manager.calls.index(old)
        assert f"column-{life}" in manager.kept
        assert f"column-{life - 1}" not in manager.kept
        kept = restored(manager)
        assert [row.life for row in kept.late.workers] == [life]
        kept.drop()


def test_an_earlier_life_is_replaced(manager, estate):
    """What was kept of an earlier life and is not wanted goes, and its sums make place for the new ones."""
    first = Keeping(manager, estate, {})
    first.look()
    estate.lives = [5]
    other = sealed.zeroed("base", 8)
    before, estate.memory = estate.memory, other
    Keeping(manager, estate, manager.kept).look()
    assert len(manager.kept["base"]) == 1
    assert os.fstat(manager.kept["base"][0]).st_ino == os.fstat(other).st_ino
    assert "column-1" not in manager.kept
    os.close(before)


def test_an_end_in_order(manager, estate):
    """At an end in order the workers' counters go, as they are in the sums already; the sockets stay."""
    keeping = Keeping(manager, estate, {})
    keeping.look()
    keeping.end()
    assert not [name for name in manager.kept if name.startswith(("column", "journal"))]
    assert {"listener-0-0", "base"} <= manager.kept.keys()


def test_a_manager_that_keeps_nothing(estate):
    """A manager without a store is told nothing."""
    manager = Manager(kept=0)
    Keeping(manager, estate, {}).look()
    assert manager.calls == []


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"serial": "x"}', json.dumps({"serial": 1, "state": {}}).encode()]
)
def test_a_document_that_cannot_be_used(text):
    """Without a document that makes sense nothing is used, and no descriptor is left open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(DocumentError):
        Kept({"state-0": [sealed.frozen("state", text)], "base": [sealed.zeroed("base", 8)]})
    with pytest.raises(DocumentError):
        Kept({"unknown": [sealed.zeroed("base", 8)]})
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_was_kept_for_a_predecessor(manager, estate):
    """After a reexec the manager lets go of what the predecessor had and this daemon has not: a socket would hold its port."""
    first = Keeping(manager, estate, {})
    first.look()
    before = estate.brief()[0], estate.brief_late()[0]
    estate.lives = [9]
    estate.group.pop().close()
    second = Keeping(manager, estate, {})
    second.inherit(*before)
    second.look()
    assert {"listener-0-0", "column-9", "base"} <= manager.kept.keys()
    assert not {"listener-0-1", "column-1", "journal-1"} & manager.kept.keys()
    assert len([name for name in manager.kept if name.startswith("state")]) == 1
