"""The file of the connection log: what is opened and what is not, and rotation."""

import asyncio
import os
import threading

import pytest

from proxy.records import connection_log_file as module
from proxy.records.connection_log_file import QUIET, ConnectionLogFile, open_safely
from proxy.stats.columns import Columns
from proxy.stats.layout import LOG_LOST, Layout
from proxy.stats.table import Table


@pytest.fixture
def folder(tmp_path):
    """A directory of our own, as /var/log/steelyard would be."""
    made = tmp_path / "log"
    made.mkdir(mode=0o755)
    return made


def refused(path):
    with pytest.raises(OSError) as error:
        os.close(open_safely(str(path)))
    return str(error.value)


def test_it_is_made_and_appended_to(folder):
    """A file that is not there is made, 0640 at most; one that is there is appended to."""
    os.umask(before := os.umask(0))
    for text in (b"one\n", b"two\n"):
        fd = open_safely(str(folder / "connections"))
        os.write(fd, text)
        os.close(fd)
    assert (folder / "connections").read_bytes() == b"one\ntwo\n"
    assert (folder / "connections").stat().st_mode & 0o777 == 0o640 & ~before


def test_links_and_what_is_no_plain_file(folder):
    """S5: a symbolic link in its place is not followed, nor is a second name, a FIFO, or a file of somebody else's taken."""
    target = folder / "target"
    target.write_text("precious")
    (folder / "link").symlink_to(target)
    refused(folder / "link")
    os.link(target, folder / "second")
    assert "one name" in refused(folder / "second")
    os.mkfifo(folder / "fifo")
    refused(folder / "fifo")
    (folder / "open").touch()
    (folder / "open").chmod(0o666)
    assert "written by any user" in refused(folder / "open")
    assert target.read_text() == "precious"


def test_a_directory_that_anybody_may_write(folder):
    """S5, S7: a directory that others can write is refused, with the sticky bit as well; further up that is enough."""
    folder.chmod(0o777)
    assert "log on the way can be written by any user" in refused(folder / "x")
    folder.chmod(0o1777)
    assert "its directory can be written by any user" in refused(folder / "x")
    inner = folder / "inner"
    inner.mkdir(mode=0o755)
    os.close(open_safely(str(inner / "x")))
    folder.chmod(0o777)
    assert "log on the way can be written by any user" in refused(inner / "x")
    assert not (folder / "x").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_what_belongs_to_somebody_else(folder):
    """S5: neither a directory nor a link nor a file of another user's is on the way."""
    real = folder / "real"
    real.mkdir()
    (folder / "ours").symlink_to("real")
    os.close(open_safely(str(folder / "ours" / "x")))
    assert (real / "x").exists()
    os.lchown(folder / "ours", 12345, 12345)
    assert "symbolic link of another user" in refused(folder / "ours" / "x")
    os.chown(real / "x", 12345, 12345)
    assert "it belongs to another user (uid 12345)" in refused(real / "x")
    os.chown(real, 12345, 12345)
    assert "real on the way belongs to another user" in refused(real / "y")


def test_links_in_circles(folder):
    """A circle of links is an error, not an endless walk; `..` in a link is no way out of the checks."""
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    assert "too many" in refused(folder / "a" / "x")
    (folder / "up").symlink_to("../log/./")
    os.close(open_safely(str(folder / "up" / "x")))
    assert (folder / "x").exists()
    assert refused(folder / "nowhere" / "x")


class Bed:
    """A log file, the counters that it looks at, and what it says."""

    def __init__(self, path):
        layout = Layout(1, 1)
        self.table = Table.create(layout)
        self.columns = Columns(layout)
        self.columns.attach(1, self.table)
        self.told = []
        self.handed = 0
        self.file = ConnectionLogFile(str(path) if path else None, self.columns, self.tell, self.hand_out)

    def tell(self, text, level):
        """Note what is recorded."""
        self.told.append((text, level))

    def hand_out(self):
        """Count how often workers were given the descriptor."""
        self.handed += 1

    async def look(self, now):
        """Look, and wait until that has been done."""
        self.file.look(now)
        while self.file._looking is not None:  # noqa: ASYNC110 - a thread looks
            await asyncio.sleep(0.001)


@pytest.fixture
async def bed():
    beds = []

    def make(path):
        beds.append(Bed(path))
        return beds[-1]

    yield make
    for one in beds:
        await one.file.close()
        one.columns.close()


async def test_rotation(bed, folder):
    """A file that was moved or removed is opened anew at the next look, and handed out; one that is there is left alone."""
    one = bed(folder / "x")
    await one.look(0)
    os.write(one.file.fd, b"before\n")
    await one.look(1)
    assert one.handed == 1
    (folder / "x").rename(folder / "x.1")
    await one.look(2)
    os.write(one.file.fd, b"after\n")
    assert one.handed == 2
    (folder / "x").unlink()
    await one.look(3)
    assert one.handed == 3
    assert ((folder / "x.1").read_bytes(), (folder / "x").read_bytes()) == (b"before\n", b"")
    assert one.told == []


async def test_a_directory_that_is_missing(bed, folder):
    """A file that cannot be opened is told once, tried again, and told again when it works."""
    one = bed(folder / "sub" / "x")
    for now in range(3):
        await one.look(now)
    (folder / "sub").mkdir()
    await one.look(4)
    assert [level for _, level in one.told] == ["error", "info"]
    assert "No such file or directory" in one.told[0][0]
    assert one.handed == 1


async def test_a_file_system_that_does_not_answer(bed, folder, monkeypatch):
    """R15: a look that hangs stops nobody: it is told once, nothing is queued behind it, and later it is told that it works."""
    monkeypatch.setattr(module, "STUCK", 0.0)
    one = bed(folder / "x")
    reading, writing = os.pipe()
    entered = threading.Event()
    real = module.open_safely

    def stuck(path):
        entered.set()
        os.read(reading, 1)
        return real(path)

    monkeypatch.setattr(module, "open_safely", stuck)
    one.file.look(0)
    assert entered.wait(10)
    for now in range(1, 4):
        one.file.look(now)
    assert one.told == [(f"the connection log cannot be written: {folder}/x: the file system does not answer", "error")]
    os.close(writing)
    await one.look(5)
    os.close(reading)
    assert (one.told[1:], one.handed) == ([(f"the connection log is written again: {folder}/x", "info")], 1)


async def test_losses_are_told_once(bed):
    """Lost lines are told when they begin, and again, with how many, when there were none for a while."""
    one = bed(None)
    for lost, now in ((0, 0), (5, 1), (9, 2), (9, 3)):
        one.table.cells[LOG_LOST] = lost
        await one.look(now)
    assert [level for _, level in one.told] == ["warning"]
    await one.look(2 + QUIET)
    assert one.told[-1] == ("no lines of the connection log are lost any more; 9 were", "info")
    one.table.cells[LOG_LOST] = 10
    await one.look(2 + QUIET + 1)
    assert len(one.told) == 3


async def test_a_directory_that_goes_and_returns(bed, folder):
    """A file that vanishes with its directory and returns as it was is told each time."""
    (folder / "sub").mkdir()
    one = bed(folder / "sub" / "x")
    await one.look(0)
    for now in (1, 3):
        (folder / "sub").rename(folder / "away")
        await one.look(now)
        (folder / "away").rename(folder / "sub")
        await one.look(now + 1)
    assert [level for _, level in one.told] == ["error", "info"] * 2
    assert one.handed == 1
