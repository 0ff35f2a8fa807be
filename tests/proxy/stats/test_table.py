"""proxy.stats.table: a column in a sealed memfd."""

import fcntl
import os
import subprocess
import sys

import pytest

from proxy.stats.layout import HEADER_MAGIC, Layout
from proxy.stats.table import Table, TableError

PLAN = Layout(1, 4)

# Two halves that differ in every byte, written in turn by another process.
ONE, OTHER = 0x0101010101010101, 0x7E7E7E7E7E7E7E7E
WRITER = f"""
import sys
from proxy.stats.layout import Layout
from proxy.stats.table import Table
table = Table.attach(int(sys.argv[1]), Layout(1, 4), writable=True)
cell, cells = int(sys.argv[2]), table.cells
for _ in range(400_000):
    cells[cell] = {ONE}
    cells[cell] = {OTHER}
cells[cell + 1] = 1
"""


@pytest.fixture
def table():
    """Make a column in this process."""
    with Table.create(PLAN) as made:
        yield made


def test_a_new_column_counts_from_zero(table):
    """A new column is all zeros except for the header's magic and sizes."""
    assert not any(table.cells[3:])
    assert len(table.cells) == PLAN.cells


def test_readers_see_what_the_writer_wrote(table):
    """A reader maps the same memory, negative values included."""
    with Table.attach(table.readonly_fd(), PLAN) as reader:
        table.cells[PLAN.backend(1)] = -7
        assert reader.cells[PLAN.backend(1)] == -7


def test_readers_cannot_write(table):
    """The descriptor that is handed to readers can neither be written through a mapping nor mapped for writing."""
    fd = table.readonly_fd()
    with pytest.raises(TableError):
        Table.attach(fd, PLAN, writable=True)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(fd, b"x")
    with Table.attach(fd, PLAN) as reader, pytest.raises(TypeError):
        reader.cells[0] = 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_cannot_reopen_for_writing(table):
    """A reader that runs as another user cannot open its read-only descriptor again for writing."""
    fd = table.readonly_fd()
    child = os.fork()
    if child == 0:  # nothing but system calls: it must not return into pytest
        code = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
        except PermissionError:
            code = 0
        except OSError:
            code = 77
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(fd)
    if code == 77:
        pytest.skip("this root cannot become another user")
    assert code == 0


def test_sealed(table):
    """Nobody can shrink, grow or unseal a column, so no reader dies of SIGBUS."""
    for size in (0, PLAN.size + 8):
        with pytest.raises(PermissionError):
            os.ftruncate(table.fd, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(table.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_strange_descriptors_are_refused(table, tmp_path):
    """A plain file, an unsealed memfd, another size and another layout are refused, and stay the caller's to close."""
    plain = os.open(tmp_path / "plain", os.O_RDWR | os.O_CREAT)
    unsealed = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.write(unsealed, bytes(table.cells))
    same_size = Layout(5, 1)
    assert same_size.size == PLAN.size
    for fd, plan in ((plain, PLAN), (unsealed, PLAN), (table.readonly_fd(), Layout(1, 5)), (table.fd, same_size)):
        with pytest.raises(TableError):
            Table.attach(fd, plan)
        os.fstat(fd)
        if fd != table.fd:
            os.close(fd)
    table.cells[HEADER_MAGIC] = 0
    with pytest.raises(TableError, match="another layout"):
        Table.attach(table.fd, PLAN)


def test_a_reader_never_sees_a_torn_cell(table):
    """While another process writes two values that differ in every byte in turn, a reader sees only those two."""
    cell = PLAN.backend(0)
    table.cells[cell] = ONE
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(table.fd), str(cell)], pass_fds=[table.fd])
    try:
        seen, cells = set(), table.cells
        while not cells[cell + 1] and writer.poll() is None:
            seen.update([cells[cell] for _ in range(1000)])
    finally:
        assert writer.wait(30) == 0
    assert seen == {ONE, OTHER}


def test_closing_frees_descriptor_and_memory(table):
    """Closing twice is harmless, and afterwards neither the descriptor nor the mapping is left."""
    fd = table.readonly_fd()
    reader = Table.attach(fd, PLAN)
    reader.close()
    reader.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(ValueError):
        reader.cells[0]
