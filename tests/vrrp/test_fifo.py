"""A FIFO that stays open: who may own it, and who may come and go."""

import os

import pytest

from vrrp.fifo import Fifo, NoFifo


def never() -> bool:
    return False


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fifo"


def test_a_reader_comes_goes_and_comes_back(path):
    """V20: what is written before, between and during the visits of a reader is read, each line once."""
    fifo = Fifo(str(path))
    fifo.open()
    fifo.write(b"before\n", never)
    for line in (b"one\n", b"two\n"):
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        fifo.open()
        fifo.write(line, never)
        assert os.read(reader, 100) == (b"before\none\n" if line == b"one\n" else line)
        os.close(reader)
    fifo.close()


def test_a_new_fifo_is_used(path):
    """V20: a FIFO that was made anew under its name gets the lines from then on."""
    fifo = Fifo(str(path))
    fifo.open()
    path.unlink()
    os.mkfifo(path, 0o600)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fifo.open()
    fifo.write(b"line\n", never)
    assert os.read(reader, 100) == b"line\n"
    os.close(reader)
    fifo.close()


def test_a_full_pipe_takes_whole_lines(path):
    """V20: a line for which there is no room is not written in part."""
    fifo = Fifo(str(path))
    fifo.open()
    line = b"x" * 99 + b"\n"
    while fifo.write(line, lambda: True):
        pass
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    data = os.read(reader, 1 << 20)
    assert len(data) % len(line) == 0
    os.close(reader)
    fifo.close()


@pytest.mark.parametrize("planted", ["link", "file", "socket"])
def test_what_is_no_fifo_is_left_alone(path, tmp_path, planted):
    """S5: neither a symbolic link nor anything else in the place of the FIFO is written to."""
    target = tmp_path / "target"
    if planted == "link":
        os.mkfifo(target)
        path.symlink_to(target)
    elif planted == "file":
        path.write_text("untouched")
    else:
        os.mknod(path, 0o600 | 0o140000)
    with pytest.raises(NoFifo, match=r"is not a FIFO|cannot be opened"):
        Fifo(str(path)).open()
    assert planted != "file" or path.read_text() == "untouched"


@pytest.mark.skipif(os.geteuid() != 0, reason="wants a file of somebody else's")
def test_a_fifo_of_somebody_else_is_left_alone(path):
    """S5: a FIFO that another user has made is not written to."""
    os.mkfifo(path, 0o666)
    os.chown(path, 1234, 1234)
    with pytest.raises(NoFifo, match="belongs to another user"):
        Fifo(str(path)).open()
