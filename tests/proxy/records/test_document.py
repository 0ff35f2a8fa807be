"""Tests of the documents in the state directory."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from proxy.records import document
from proxy.records.disk_thread import DiskThread
from proxy.records.document import DOCUMENT_MAX, Document, StateError, load, save


def test_a_document_comes_back(tmp_path):
    """What was saved is loaded, by another life as well; what never was is None."""
    directory = tmp_path / "state"
    assert document.load(directory, "x.json") is None
    document.save(directory, "x.json", ["outside"])
    assert document.load(directory, "x.json") == ["outside"]
    assert [one.name for one in directory.iterdir()] == ["x.json"]


def test_an_empty_document_is_no_file(tmp_path):
    """R15: to forget everything takes no room on a full disk: a document with nothing in it is removed."""
    document.save(tmp_path, "x.json", ["outside"])
    document.save(tmp_path, "x.json", [])
    assert document.load(tmp_path, "x.json") is None
    assert list(tmp_path.iterdir()) == []
    document.save(tmp_path, "x.json", [])


def test_it_is_private(tmp_path):
    """S5: the directory is closed to others, the document to everybody else."""
    directory = tmp_path / "state"
    document.save(directory, "x.json", 1)
    assert directory.stat().st_mode & 0o777 == 0o750
    assert (directory / "x.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\x00"])
def test_what_is_no_document(tmp_path, text):
    """A document that is damaged is an error that names it."""
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(StateError, match=r"x\.json"):
        document.load(tmp_path, "x.json")


def test_planted_links_are_not_followed(tmp_path):
    """S5: a symbolic link in a document's place is neither read nor written through."""
    directory = tmp_path / "state"
    directory.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("[1]")
    (directory / "x.json").symlink_to(victim)
    with pytest.raises(StateError):
        document.load(directory, "x.json")
    (directory / "x.json.new").symlink_to(victim)
    document.save(directory, "x.json", [2])
    assert victim.read_text() == "[1]"
    assert document.load(directory, "x.json") == [2]


def test_a_directory_of_somebody_else(tmp_path):
    """S5: a directory that anybody may write to is refused."""
    tmp_path.chmod(0o777)
    with pytest.raises(StateError, match="any user may write to it"):
        document.save(tmp_path, "x.json", 1)


def test_a_write_that_fails_keeps_the_old_one(tmp_path, monkeypatch):
    """A document that could not be written as a whole is the old one still."""
    document.save(tmp_path, "x.json", "old")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="No space left"):
        document.save(tmp_path, "x.json", "new")
    monkeypatch.undo()
    assert document.load(tmp_path, "x.json") == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["x.json"]


def test_what_could_not_be_read_back_is_not_written(tmp_path):
    """R9: a document beyond the bound is refused when it is saved, and the old one stays."""
    save(tmp_path, "x", [1])
    with pytest.raises(StateError, match="octets are more than"):
        save(tmp_path, "x", ["x" * DOCUMENT_MAX])
    assert load(tmp_path, "x") == [1]


def test_reading_makes_nothing(tmp_path):
    """R9: a directory that is not there has no documents, and is not made by looking."""
    assert load(tmp_path / "state", "x") is None
    assert not (tmp_path / "state").exists()


@pytest.fixture
async def disk():
    one = DiskThread("disk")
    yield one
    await one.close(10)


async def test_saved_first_and_then_in_force(tmp_path, disk):
    """R15: what is put into force is on the disk by then."""
    one, seen = Document(disk, tmp_path, "x.json"), []
    await one.commit(lambda: ["a"], lambda: seen.append(load(tmp_path, "x.json")))
    assert seen == [["a"]]
    assert await Document(disk, tmp_path, "x.json").load() == ["a"]


async def test_what_cannot_be_saved_is_not_put_into_force(tmp_path, disk):
    """R15: an act that could not be saved has no effect."""
    one, done = Document(disk, tmp_path / "file" / "state", "x.json"), []
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="Not a directory"):
        await one.commit(lambda: ["a"], lambda: done.append(1))
    assert done == []


async def test_one_after_the_other(tmp_path, disk):
    """R15: of acts that come together each is added to what the others have saved."""
    one, acts = Document(disk, tmp_path, "x.json"), []
    await asyncio.gather(*(one.commit(lambda n=n: [*acts, n], lambda n=n: acts.append(n)) for n in range(20)))
    assert load(tmp_path, "x.json") == acts == [*range(20)]


class StuckDisk:
    """fsync hangs in the kernel, as on a file system that does not answer, until it is freed."""

    def __init__(self, monkeypatch):
        self._reading, self._writing = os.pipe()
        self._real = os.fsync
        self.entered = threading.Event()
        monkeypatch.setattr(os, "fsync", self._fsync)

    def _fsync(self, fd):
        self.entered.set()
        os.read(self._reading, 1)
        self._real(fd)

    def free(self):
        """Let it answer, now and from now on."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1


@pytest.fixture
def stuck(monkeypatch):
    disk = StuckDisk(monkeypatch)
    yield disk
    disk.free()


async def test_a_refused_act_does_not_come_back(tmp_path, disk, stuck, monkeypatch):
    """R15: an act that was refused because the disk was stuck is not on it when the disk has woken up."""
    monkeypatch.setattr(document, "PATIENCE", 0.2)
    (tmp_path / "x.json").write_text('["old"]')
    one, done = Document(disk, tmp_path, "x.json"), []
    await one.load()
    for _ in range(2):
        with pytest.raises(StateError, match="has not answered"):
            await one.commit(lambda: ["new"], lambda: done.append(1))
    stuck.free()
    monkeypatch.undo()
    await disk.run(lambda: None, 10)
    assert (done, load(tmp_path, "x.json")) == ([], ["old"])
    await one.commit(lambda: ["newer"], lambda: done.append(2))
    assert (done, load(tmp_path, "x.json")) == ([2], ["newer"])


async def test_whoever_leaves_cuts_nothing_short(tmp_path, disk, stuck):
    """R15: a client that leaves while its act is being saved leaves no half act: it is saved and put into force."""
    one, done = Document(disk, tmp_path, "x.json"), []
    client = asyncio.create_task(one.commit(lambda: ["a"], lambda: done.append(1)))
    await asyncio.to_thread(stuck.entered.wait, 10)
    client.cancel()
    stuck.free()
    await one.commit(lambda: ["a", "b"], lambda: done.append(2))
    assert (done, load(tmp_path, "x.json")) == ([1, 2], ["a", "b"])
    with pytest.raises(asyncio.CancelledError):
        await client


async def test_a_sync_that_fails_after_the_rename(tmp_path, disk, monkeypatch):
    """R15: where the new document is there but may not last, the old one is put back."""
    one = Document(disk, tmp_path, "x.json")
    await one.commit(lambda: "old", lambda: None)
    real, failed = os.fsync, []

    def fsync(fd):
        if Path(f"/proc/self/fd/{fd}").resolve() == tmp_path.resolve() and not failed:
            failed.append(fd)
            raise OSError(5, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StateError, match="Input/output"):
        await one.commit(lambda: "new", lambda: None)
    assert (len(failed), load(tmp_path, "x.json")) == (1, "old")
