"""Scripts and FIFOs that are told of moves: what they get, and what is refused."""

import os
from pathlib import Path

import pytest

from vrrp.notify import Notifier
from vrrp.settings import NotifySettings


def allowed(path: str, _: int) -> str:
    return path


class Told(list):
    """What the notifier had to complain of."""

    def notifier(self, check=allowed, timeout=10.0, **settings):
        """Return a notifier with these settings."""
        return Notifier(NotifySettings(**settings), self.append, check, timeout)


@pytest.fixture
def told() -> Told:
    """Make a list for complaints."""
    return Told()


@pytest.fixture
def script(tmp_path) -> Path:
    """Make a script that writes its arguments, one a line, and its environment's size."""
    path = tmp_path / "script"
    path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {tmp_path}/out\n')
    path.chmod(0o755)
    return path


async def test_a_script_gets_keepaliveds_arguments(told, script):
    """V20: a script is run once a move, in order, with its own arguments first and no shell to interpret any of them."""
    notifier = told.notifier(command=(str(script), "$HOME; echo x"))
    notifier.tell("INSTANCE", "outside", "active", 150)
    notifier.tell("GROUP", "mail", "init", 0)
    await notifier.close(10)
    out = (script.parent / "out").read_text().splitlines()
    assert out == [
        "$HOME; echo x",
        "INSTANCE",
        "outside",
        "MASTER",
        "150",
        "$HOME; echo x",
        "GROUP",
        "mail",
        "STOP",
        "0",
    ]
    assert told == []


async def test_only_what_is_asked_for(told, script):
    """V20: names are matched by glob, states exactly."""
    notifier = told.notifier(command=(str(script),), on=("out*",), to=("fault", "backup"))
    for name, state in (("outside", "active"), ("inside", "fault"), ("outside", "fault"), ("outside", "backup")):
        notifier.tell("INSTANCE", name, state, 1)
    await notifier.close(10)
    out = (script.parent / "out").read_text().split()
    assert out == ["INSTANCE", "outside", "FAULT", "1", "INSTANCE", "outside", "BACKUP", "1"]


@pytest.mark.parametrize("without", [True, False])
async def test_what_is_not_safe_is_not_run(told, script, without):
    """V20, S4: a script that the check refuses is not run, nor any without a check, and that is told with the reason."""

    def refused(path, uid):
        assert uid == os.geteuid()
        raise PermissionError(f"{path} can be written by everybody")

    notifier = told.notifier(None if without else refused, command=(str(script),))
    notifier.tell("INSTANCE", "outside", "active", 1)
    await notifier.close(10)
    assert not (script.parent / "out").exists()
    assert ("nobody here can say" if without else "written by everybody") in told[0]


async def test_a_script_ends_in_its_time(told, tmp_path):
    """V20: a script that takes too long is killed with all that it started, and the next move is told all the same."""
    script = tmp_path / "slow"
    script.write_text(f"#!/bin/sh\necho $3 >> {tmp_path}/out\n[ $3 = FAULT ] || sleep 60\n")
    script.chmod(0o755)
    notifier = told.notifier(command=(str(script),), timeout=0.3)
    notifier.tell("INSTANCE", "outside", "active", 1)
    notifier.tell("INSTANCE", "outside", "fault", 1)
    await notifier.close(10)
    assert (tmp_path / "out").read_text().split() == ["MASTER", "FAULT"]
    assert len(told) == 1
    assert "longer" in told[0]


async def test_a_failing_script_is_told(told, tmp_path):
    """V20: a script's exit code other than 0 is told."""
    script = tmp_path / "failing"
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o755)
    notifier = told.notifier(command=(str(script),))
    notifier.tell("INSTANCE", "outside", "active", 1)
    await notifier.close(10)
    assert told == [f"{script} ended with 3"]


async def test_moves_that_wait_are_bounded(told, script):
    """V20: no more than 64 moves wait for a script; what is dropped is told."""
    notifier = told.notifier(command=(str(script),))
    for number in range(70):
        notifier.tell("INSTANCE", "outside", "active", number)
    assert len(told) == 6
    await notifier.close(30)


async def test_a_fifo_gets_a_line(told, tmp_path):
    """V20: a FIFO, made if there is none, gets keepalived's line; without a reader nothing waits, and that is told."""
    path = tmp_path / "fifo"
    notifier = told.notifier(fifo=str(path))
    notifier.tell("INSTANCE", "outside", "active", 150)
    assert len(told) == 1
    assert path.is_fifo()
    assert path.stat().st_mode & 0o777 == 0o600
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    notifier.tell("INSTANCE", "outside", "backup", 150)
    assert os.read(reader, 100) == b'INSTANCE "outside" BACKUP 150\n'
    os.close(reader)
    await notifier.close(1)


async def test_a_full_fifo_holds_nobody_up(told, tmp_path):
    """V20: a reader that has stopped reading costs the line, and no time."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    notifier = told.notifier(fifo=str(path))
    for number in range(5000):
        notifier.tell("INSTANCE", "outside", "backup", number)
    assert told
    assert "took no more" in told[0]
    os.close(reader)


@pytest.mark.parametrize("planted", ["link", "file"])
async def test_no_fifo_is_not_written_to(told, tmp_path, planted):
    """S5: neither a symbolic link nor a plain file in the place of the FIFO is written to."""
    target, path = tmp_path / "target", tmp_path / "fifo"
    if planted == "link":
        os.mkfifo(target)
        path.symlink_to(target)
        reader = os.open(target, os.O_RDONLY | os.O_NONBLOCK)
    else:
        path.write_text("untouched")
        reader = os.open(path, os.O_RDONLY)
    told.notifier(fifo=str(path)).tell("INSTANCE", "outside", "active", 1)
    assert os.read(reader, 100) == (b"" if planted == "link" else b"untouched")
    assert len(told) == 1
    os.close(reader)
