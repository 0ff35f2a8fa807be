"""proxy.records.rotating_file: a private, bounded file of lines."""

import os
import resource
import stat
from pathlib import Path

import pytest

from proxy.records.rotating_file import RotatingFile, RotatingFileError


def lines(directory, **more):
    """Return what a fresh reader finds."""
    file = RotatingFile(directory, "log", **more)
    found = list(file.lines())
    file.close()
    return found


def test_private_from_its_creation(tmp_path, monkeypatch):
    """S5: the directory is made 0750, the file 0600, without a moment in which it was not."""
    state = tmp_path / "state"
    monkeypatch.delattr(os, "fchmod")  # nothing may need to be put right
    RotatingFile(state, "log").close()
    assert stat.S_IMODE(state.stat().st_mode) == 0o750
    assert stat.S_IMODE((state / "log").stat().st_mode) == 0o600


def test_an_open_file_is_made_private(tmp_path):
    """S5: a file that others could read is closed to them when it is opened."""
    (tmp_path / "log").touch()
    (tmp_path / "log").chmod(0o644)
    RotatingFile(tmp_path, "log").close()
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["log", "log.1"])
def test_a_planted_symlink_is_not_followed(tmp_path, name):
    """S5: neither writing nor reading back goes through a symbolic link that somebody planted."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious\n")
    state = tmp_path / "state"
    state.mkdir()
    (state / name).symlink_to(victim)
    with pytest.raises(RotatingFileError, match=name.removesuffix(".1")):
        lines(state)
    assert victim.read_bytes() == b"precious\n"


def test_a_planted_hard_link_and_fifo_are_refused(tmp_path):
    """S5: a hard link to another file is not written to, and a FIFO does not hang us."""
    (tmp_path / "victim").write_bytes(b"precious\n")
    os.link(tmp_path / "victim", tmp_path / "log")
    with pytest.raises(RotatingFileError, match="not a plain file of our own"):
        RotatingFile(tmp_path, "log")
    for name in ("pipe", "other.1"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(RotatingFileError, match="not a plain file of our own"):
            list(RotatingFile(tmp_path, name.removesuffix(".1")).lines())


def test_a_directory_that_anybody_may_write_is_refused(tmp_path):
    """S5: there are no files of ours in a shared directory."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(RotatingFileError, match="any user may write to it"):
        RotatingFile(shared, "log")
    assert list(shared.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a link of another user")
def test_a_planted_link_to_a_directory_is_not_followed(tmp_path):
    """S5: a state directory that is somebody else's symbolic link is refused, one of our own is not."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = tmp_path / "state"
    link.symlink_to(elsewhere)
    RotatingFile(link, "events.jsonl").close()
    (elsewhere / "events.jsonl").unlink()
    try:
        os.chown(link, 12345, 12345, follow_symlinks=False)
    except OSError:
        pytest.skip("this root has no other users")
    with pytest.raises(RotatingFileError, match="symbolic link of another user"):
        RotatingFile(link, "events.jsonl")
    assert list(elsewhere.iterdir()) == []


def test_rotated_at_its_bound(tmp_path):
    """Two files of at most the bound each hold the newest lines, in order, however many are written."""
    file = RotatingFile(tmp_path, "log", size_max=1000)
    for number in range(500):
        file.append(b"line %04d" % number)
    file.close()
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert len(sizes) == 2
    assert max(sizes) <= 1000
    kept = lines(tmp_path, size_max=1000)
    assert kept == [b"line %04d" % number for number in range(500 - len(kept), 500)]
    assert len(kept) >= 100


def test_a_torn_last_line_is_left_alone(tmp_path):
    """What a power cut left of a line is not read, and the next line does not grow onto it."""
    (tmp_path / "log").write_bytes(b"one\ntw")
    file = RotatingFile(tmp_path, "log")
    assert list(file.lines()) == [b"one"]
    file.append(b"three")
    file.close()
    assert lines(tmp_path) == [b"one", b"tw", b"three"]


def test_a_full_disk_is_told_and_survived(tmp_path):
    """A write that is cut short or fails says so, and what is written once there is room again has a line of its own."""
    file = RotatingFile(tmp_path, "log")
    file.append(b"before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))  # as a full disk does: three bytes more, then none
    try:
        for why in ("only 3 of", "File too large"):
            with pytest.raises(RotatingFileError, match=why):
                file.append(b"cut short")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    file.append(b"after")
    file.close()
    assert lines(tmp_path) == [b"before", b"cut", b"after"]


def test_no_descriptor_is_left(tmp_path):
    """A file that could not be opened leaves no descriptor behind."""
    (tmp_path / "log").mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(RotatingFileError):
            RotatingFile(tmp_path, "log")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
