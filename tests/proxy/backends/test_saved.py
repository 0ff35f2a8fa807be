"""The document of the saved acts: what is written, what is read, and what happens when it cannot be."""

import asyncio
import json

import pytest

from proxy.backends.errors import FailedError, RefusedError
from proxy.backends.saved import SAVED, SavedActs
from proxy.records import document
from proxy.records.disk_thread import DiskThread
from proxy.records.document import Document, StateError

ROW = {"service": "dns", "backend": "ns2", "by": "uid 0", "at": 1.0}


class Bed:
    """Two parts that have acts in memory."""

    def __init__(self, directory, inherited=None):
        self.directory = directory
        self.told = []
        kept = Document(DiskThread("disk"), directory, SAVED)
        kept.content = document.load(directory, SAVED)
        self.saved = SavedActs(kept, lambda _, subject, text, level: self.told.append(text), inherited)
        self.acts = {"one": [], "two": []}
        for name in self.acts:
            self.saved.add_part(name, lambda name=name: self.acts[name])

    async def do(self, part, *rows):
        """Have a part save these rows and put them into force."""
        await self.saved.commit(lambda: {part: [*rows]}, lambda: self.acts.update({part: [*rows]}))

    @property
    def written(self):
        """What the file has."""
        path = self.directory / SAVED
        return json.loads(path.read_text()) if path.exists() else None


@pytest.fixture
async def bed(tmp_path):
    return Bed(tmp_path)


def act(name, **more):
    """A row about an act."""
    return {**ROW, "act": name, **more}


async def test_one_document_for_all_parts(bed, tmp_path):
    """R9: the acts of all parts are in one document with a version, and the next start reads them."""
    await bed.do("one", act("drain"))
    await bed.do("two", act("add"), act("remove"))
    assert bed.written == {"version": 1, "acts": [act("drain"), act("add"), act("remove")]}
    assert Bed(tmp_path).saved.rows == bed.written["acts"]
    assert Bed(tmp_path, [act("leave")]).saved.rows == [act("leave")]
    await bed.do("one")
    assert bed.written["acts"] == [act("add"), act("remove")]
    await bed.do("two")
    assert bed.written is None


async def test_acts_at_the_same_time(bed):
    """R15: of acts of two parts that are saved at the same time, both are kept."""
    await asyncio.gather(bed.do("one", act("drain")), bed.do("two", act("add")))
    assert bed.written["acts"] == [act("drain"), act("add")]


async def test_nothing_to_save(bed, tmp_path):
    """R15: an act that changes nothing of what is saved is in force at once, even if nothing can be written."""
    (tmp_path / SAVED).mkdir()
    done = []
    await bed.saved.commit(lambda: {"one": []}, lambda: done.append(1))
    await bed.saved.clear(lambda: done.append(2))
    assert (done, bed.told) == ([1, 2], [])


async def test_what_cannot_be_saved(bed, tmp_path):
    """R15: an act that cannot be saved is not in force and is told; so is a clear that cannot be."""
    await bed.do("one", act("drain"))
    (tmp_path / SAVED).unlink()
    (tmp_path / SAVED).mkdir()
    with pytest.raises(FailedError, match=r"nothing is changed, as it cannot be saved: .*Is a directory"):
        await bed.do("two", act("add"))
    with pytest.raises(FailedError, match="nothing is changed"):
        await bed.saved.clear(bed.acts.clear)
    assert bed.acts == {"one": [act("drain")], "two": []}
    assert len(bed.told) == 2
    bed.acts["one"] = []
    bed.saved.keep()
    await bed.saved.settled()
    assert bed.told[-1].startswith("still has acts that have ended, as it cannot be saved")


@pytest.mark.parametrize("error", [RefusedError, FailedError])
async def test_an_act_that_is_impossible_once_it_is_saved(bed, error):
    """R15: if an act cannot be put into force after it was saved, it is refused and the document does not keep it."""
    await bed.do("one", act("drain"))

    def refuse():
        raise error("there is no room any more")

    with pytest.raises(error, match="no room"):
        await bed.saved.commit(lambda: {"two": [act("add")]}, refuse)
    await bed.saved.settled()
    assert bed.written["acts"] == [act("drain")]


async def test_an_act_that_ends_while_another_is_saved(bed):
    """R9: an act that a reload ends while another act is being saved is not saved with it in the end."""
    await bed.do("one", act("drain"))
    saving = asyncio.ensure_future(bed.do("two", act("add")))
    await asyncio.sleep(0)
    bed.acts["one"] = []
    bed.saved.keep()
    await saving
    await bed.saved.settled()
    assert bed.written["acts"] == [act("add")]


async def test_the_form_without_a_version(tmp_path):
    """R9: the file of a version that saved admin states alone is read."""
    document.save(tmp_path, SAVED, [{**ROW, "admin": "maint"}])
    (row,) = Bed(tmp_path).saved.rows
    assert row["act"] == "maint"
    assert "filed" not in row


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"version": 2, "acts": []},
            "it has version 2 and this steelyard reads version 1: start the one that wrote it",
        ),
        ({"acts": []}, "it has version None"),
        ({"version": 1}, "it has no list of acts"),
        ({"version": 1, "acts": {"a": 1}}, "it has no list of acts"),
        ("acts", "it has no list of acts"),
        ([1], "invalid override: 1"),
        ({"version": 1, "acts": ["x"]}, "invalid override: 'x'"),
        ({"version": 1, "acts": [{**ROW, "act": "off"}]}, "invalid override"),
        ({"version": 1, "acts": [{**ROW, "act": "leave"}]}, "invalid override"),
        ({"version": 1, "acts": [{**ROW, "act": ["add"]}]}, "invalid override"),
    ],
)
async def test_a_strange_document(tmp_path, content, words):
    """R9: a document that is not understood is an error at the start, in words, and is left as it is."""
    document.save(tmp_path, SAVED, content)
    with pytest.raises(StateError, match=words):
        Bed(tmp_path)
    assert document.load(tmp_path, SAVED) == content
