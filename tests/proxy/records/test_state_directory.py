"""Tests of the state directory's one owner."""

import os

import pytest

from proxy.records.document import StateError
from proxy.records.state_directory import StateDirectory


async def test_one_owner(tmp_path):
    """R11: a second daemon with the same state directory is refused, at once, and told who has it; the next owner is free."""
    first = await StateDirectory.take(tmp_path / "state", "lb1.example.net")
    assert first.fault == ""
    with pytest.raises(StateError, match=rf"another daemon, pid {os.getpid()} of node lb1\.example\.net: give each"):
        await StateDirectory.take(tmp_path / "state", "lb2")
    await first.close()
    second = await StateDirectory.take(tmp_path / "state", "b")
    with pytest.raises(StateError, match=rf"pid {os.getpid()} of node b:"):
        await StateDirectory.take(tmp_path / "state", "lb2")
    await second.close()


async def test_the_lock_is_private(tmp_path):
    """S5: nobody else can open the lock, and so hold it against us, whatever the directory's mode is."""
    tmp_path.chmod(0o755)
    one = await StateDirectory.take(tmp_path, "n")
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    await one.close()


async def test_a_directory_that_cannot_be_used(tmp_path):
    """R15: where there is no place for state the daemon goes on, and knows why."""
    (tmp_path / "file").touch()
    one = await StateDirectory.take(tmp_path / "file" / "state", "n")
    assert one.fault == f"{tmp_path}/file/state: Not a directory"
    await one.close()


async def test_a_planted_lock(tmp_path):
    """S5: a link or a FIFO in the lock's place is not followed and hangs nobody."""
    os.mkfifo(tmp_path / "lock")
    one = await StateDirectory.take(tmp_path, "n")
    assert "not a plain file of our own" in one.fault
    await one.close()


async def test_a_successor_has_the_lock(tmp_path):
    """R12, R11: the lock passes to a successor without a moment in which another daemon could have it, and names its owner."""
    first = await StateDirectory.take(tmp_path, "old")
    second = StateDirectory.adopt(tmp_path, os.dup(first.lock))
    first.give_away()
    assert first.lock == -1
    await first.close()
    second.sign("new")
    await second.written()
    with pytest.raises(StateError, match=f"pid {os.getpid()} of node new"):
        await StateDirectory.take(tmp_path, "other")
    await second.close()
    third = await StateDirectory.take(tmp_path, "other")
    await third.close()
