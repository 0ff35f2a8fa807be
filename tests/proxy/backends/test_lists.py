"""The lists in force: the file with changes laid over it, and what is passed on of a change."""

import pytest

from proxy.backends.admin import Admins
from proxy.backends.edits import Addition, Edit, Edits, Weighing
from proxy.backends.effective import Running
from proxy.backends.errors import FailedError, RefusedError
from proxy.backends.lists import Lists
from proxy.backends.saved import SAVED, SavedActs
from proxy.config.loader import load, resolve_backend
from proxy.records.disk_thread import DiskThread
from proxy.records.document import Document
from proxy.stats.slots import Slots

FILE = """
[node]
name = "n"
[service.a]
listen = ["192.0.2.10:53/udp"]
backends = ["192.0.2.1", "192.0.2.2"]
probe = { type = "none" }
[service.b]
listen = ["192.0.2.10:54/udp"]
backends = ["192.0.2.1"]
probe = { type = "none" }
"""
FIRST, SECOND, NEW = ("a", "192.0.2.1"), ("a", "192.0.2.2"), ("a", "192.0.2.3")
WEIGHT = Weighing("uid 0", 0.0, weight=5, filed=1)
NONE = (lambda: None,)


class Bed:
    """Two services, with room for one more backend."""

    def __init__(self, directory):
        path = directory / "f.toml"
        path.write_text(FILE)
        self.running = Running(load(path), Slots(4), Slots(4))
        self.passed_on = []
        tell = lambda *_, **__: None  # noqa: E731
        document = Document(DiskThread("disk"), directory, SAVED)
        self.admins = Admins(self.running, SavedActs(document, tell), tell, lambda _: None, lambda _: 0)
        self.lists = Lists(
            self.running, self.admins, lambda name, slots: self.passed_on.append((name, slots)), self.passed_on.append
        )

    def added(self, key=NEW):
        """Another backend."""
        return {key: Addition("uid 0", 0.0, weight=None, backend=resolve_backend(self.running.file, *key))}


@pytest.fixture
async def bed(tmp_path):
    return Bed(tmp_path)


async def test_only_what_changes_is_passed_on(bed):
    """R3: a changed list is passed on with its new slots, a changed weight alone as a weight; the other service is not."""
    bed.lists.put(Edits(added=bed.added()), *NONE)
    assert bed.passed_on == [("a", [3])]
    bed.passed_on.clear()
    bed.lists.put(Edits(bed.lists.edits.added, weights={SECOND: WEIGHT}), *NONE)
    assert (bed.passed_on, bed.running.backends[SECOND].weight, bed.running.weighed) == ([SECOND], 5, {SECOND})
    bed.passed_on.clear()
    bed.lists.put(Edits(), *NONE)
    assert bed.passed_on == [("a", []), SECOND]
    assert (list(bed.running.backends), bed.running.weighed) == ([FIRST, SECOND, ("b", "192.0.2.1")], set())
    assert bed.running.config.services == bed.running.file.services


async def test_a_weight_that_the_file_has_too(bed):
    """T24: a weight that an operator sets to what the file says is passed on: a probe's no longer counts."""
    bed.lists.put(Edits(weights={FIRST: Weighing("uid 0", 0.0, weight=1, filed=1)}), *NONE)
    assert (bed.passed_on, bed.running.weighed) == ([FIRST], {FIRST})


async def test_what_leaves_stays_listed(bed):
    """T16: a removed backend stays listed while it is leaving, and is not once it has left."""
    bed.lists.put(Edits(removed={FIRST: Edit("uid 0", 0.0)}), lambda: bed.admins.retire([FIRST], "uid 0", force=False))
    assert (bed.passed_on, FIRST in bed.running.backends) == ([], True)
    bed.admins.gone(FIRST, forever=False)
    bed.lists.force(["a"])
    assert (bed.passed_on, FIRST in bed.running.backends) == ([("a", [])], False)


async def test_room_is_asked_for_without_effect(bed):
    """R15: a change without room is refused, counting what is still leaving; asking changes nothing."""
    bed.lists.check_room(Edits(bed.added()), ["a"])
    more = Edits({**bed.added(), **bed.added(("a", "192.0.2.4"))}, {FIRST: Edit("uid 0", 0.0)})
    with pytest.raises(FailedError, match="`steelyard reexec` makes room"):
        bed.lists.check_room(more, ["a"])
    assert (bed.passed_on, bed.lists.edits, len(bed.running.backends)) == ([], Edits(), 3)


async def test_what_is_known_of_a_backend(bed):
    """A backend is the file's, or was added, or is only leaving; its own weight is the one without an operator's."""
    bed.lists.put(Edits(added=bed.added(), weights={SECOND: WEIGHT}), *NONE)
    assert [bed.lists.is_filed(key) for key in (SECOND, NEW)] == [True, False]
    assert [bed.lists.is_known(key) for key in (SECOND, NEW, ("a", "192.0.2.9"))] == [True, True, False]
    assert [bed.lists.own(key).weight for key in (SECOND, NEW)] == [1, 1]
    assert bed.lists.service("a") is bed.running.services["a"]
    with pytest.raises(RefusedError, match="c is no longer in the file"):
        bed.lists.service("c")
