"""Tests of the documents in the state directory."""

import os

import pytest

from proxy.records import state_directory
from proxy.records.state_directory import DOCUMENT_MAX, StateError, load, save


def test_a_document_comes_back(tmp_path):
    """What was saved is loaded, by another life as well; what never was is None."""
    directory = tmp_path / "state"
    assert state_directory.load(directory, "x.json") is None
    state_directory.save(directory, "x.json", ["outside"])
    assert state_directory.load(directory, "x.json") == ["outside"]
    state_directory.save(directory, "x.json", [])
    assert state_directory.load(directory, "x.json") == []
    assert [one.name for one in directory.iterdir()] == ["x.json"]


def test_it_is_private(tmp_path):
    """S5: the directory is closed to others, the document to everybody else."""
    directory = tmp_path / "state"
    state_directory.save(directory, "x.json", 1)
    assert directory.stat().st_mode & 0o777 == 0o750
    assert (directory / "x.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\x00"])
def test_what_is_no_document(tmp_path, text):
    """A document that is damaged is an error that names it."""
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(StateError, match=r"x\.json"):
        state_directory.load(tmp_path, "x.json")


def test_planted_links_are_not_followed(tmp_path):
    """S5: a symbolic link in a document's place is neither read nor written through."""
    directory = tmp_path / "state"
    directory.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("[1]")
    (directory / "x.json").symlink_to(victim)
    with pytest.raises(StateError):
        state_directory.load(directory, "x.json")
    (directory / "x.json.new").symlink_to(victim)
    state_directory.save(directory, "x.json", [2])
    assert victim.read_text() == "[1]"
    assert state_directory.load(directory, "x.json") == [2]


def test_a_directory_of_somebody_else(tmp_path):
    """S5: a directory that anybody may write to is refused."""
    tmp_path.chmod(0o777)
    with pytest.raises(StateError, match="may be written by anybody"):
        state_directory.save(tmp_path, "x.json", 1)


def test_a_write_that_fails_keeps_the_old_one(tmp_path, monkeypatch):
    """A document that could not be written as a whole is the old one still."""
    state_directory.save(tmp_path, "x.json", "old")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="No space left"):
        state_directory.save(tmp_path, "x.json", "new")
    monkeypatch.undo()
    assert state_directory.load(tmp_path, "x.json") == "old"


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
