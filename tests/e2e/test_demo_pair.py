"""`steelyard demo --pair` as a newcomer runs it and ends it."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.e2e.bed import obstacle
from tests.e2e.process import MissingError, descendants, until

EVENTS = 9
PARTS = 6  # four servers, two masters


class Run:
    """One run of the command, and the process namespace that it lives in."""

    def __init__(self, folder: Path) -> None:
        reason = obstacle()
        if reason:
            raise MissingError(reason)
        self._output = folder / "told.txt"
        self._files = folder / "tmp"
        self._files.mkdir()
        with self._output.open("w") as output:  # no pipe: nobody is to be ended by a write that fails
            self.proc = subprocess.Popen(
                [sys.executable, "-m", "proxy", "demo", "--pair"],
                stdout=output, stderr=output,
                cwd=Path(__file__).parents[2], env=os.environ | {"TMPDIR": str(self._files)},
            )  # fmt: skip
        self.namespace = until(self._namespace, 30, "a process namespace")

    def _namespace(self) -> int:
        """Return the inode of the namespace that all but the first process are in."""
        _, child, *_ = descendants(self.proc.pid)
        inode = Path(f"/proc/{child}/ns/pid").stat().st_ino
        return 0 if inode == Path("/proc/self/ns/pid").stat().st_ino else inode

    def end(self) -> None:
        """End the command and all its processes."""
        self.proc.kill()
        self.proc.wait()
        for pid in self.members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def told(self) -> str:
        """Return the output of the command."""
        return self._output.read_text()

    def files(self) -> list[Path]:
        """Return the files that the command has left."""
        return list(self._files.iterdir())

    def members(self) -> list[int]:
        """Return the processes of the namespace that live."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "ns/pid").stat().st_ino == self.namespace:
                    found.append(int(entry.name))
            except OSError:
                continue
        return found


@pytest.fixture
def folder():
    """Make a directory with a short name: the path of a Unix socket has at most 107 characters."""
    with tempfile.TemporaryDirectory(prefix="demo-") as made:
        yield Path(made)


@pytest.mark.timeout(300)
def test_the_address_moves_and_no_query_is_lost(folder):
    """U7, V18: the pair answers each query through every failure of the first host, and nothing is left of the demo."""
    run = Run(folder)
    try:
        code = run.proc.wait(270)
        told = run.told()
        assert code == 0, told
        assert run.members() == []
    finally:
        run.end()
    assert run.files() == []
    assert "No query was lost." in told
    assert "lb1's kernel has removed the address by itself" in told
    assert "standby requested by uid 0" in told
    summary = told.partition("Summary:")[2].splitlines()
    rows = [line.split("|") for line in summary if " ms |" in line]
    assert len(rows) == EVENTS
    assert [row[-1].strip() for row in rows] == ["lb1", "lb2", "lb1", "lb2", "lb1", "lb2", "lb1", "lb2", "lb1"]
    assert all(int(row[1].split()[0]) > 100 for row in rows), "queries were sent all the time"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whoever_ends_it_ends_all_of_it(folder, number):
    """If the command is interrupted, terminated or killed, all its processes end; unless it is killed, its files go too."""
    run = Run(folder)
    try:
        until(lambda: len(run.members()) > PARTS, 60, "the daemons to be started")
        run.proc.send_signal(number)
        code = run.proc.wait(10)
        until(lambda: run.members() == [], 5, "all processes to be gone")
    finally:
        run.end()
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 128 + number
        assert run.files() == []
