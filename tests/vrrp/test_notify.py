"""Scripts and FIFOs that are told of moves: what they get, and what is refused."""

import asyncio
import contextlib
import os
import threading
from pathlib import Path

import pytest

from vrrp.notify import WAITING, Notifier
from vrrp.settings import NotifySettings


def allowed(path: str, _: int) -> str:
    return path


async def true(condition):
    """Wait until something has happened in a thread or a script."""
    while not condition():  # noqa: ASYNC110 - files and threads tell nobody of a change
        await asyncio.sleep(0.01)


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


async def test_other_moves_of_the_same_script(told, script):
    """R3: other moves are chosen for the same script from one moment on, and those that wait still reach it in order."""
    notifier = told.notifier(command=(str(script),), on=("outside",))
    notifier.tell("INSTANCE", "outside", "backup", 1)
    notifier.tell("INSTANCE", "inside", "backup", 2)
    other = NotifySettings(command=(str(script),), on=("inside",))
    assert notifier.goes_to(other)
    assert not notifier.goes_to(NotifySettings(command=(str(script), "x"), on=("outside",)))
    notifier.change(other)
    notifier.tell("INSTANCE", "outside", "active", 3)
    notifier.tell("INSTANCE", "inside", "active", 4)
    notifier.tell("INSTANCE", "outside", "init", 5, NotifySettings(on=("outside",)))
    await notifier.close(10)
    assert (script.parent / "out").read_text().splitlines()[3::4] == ["1", "4", "5"]


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
    assert ("this process cannot check" if without else "written by everybody") in told[0]


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


async def test_the_end_waits_for_scripts(told, tmp_path):
    """V20: scripts that take their time are all run at the end, in the order of the moves, STOP last."""
    script = tmp_path / "slow"
    script.write_text(f"#!/bin/sh\nsleep 0.4\necho $2 $3 >> {tmp_path}/out\n")
    script.chmod(0o755)
    notifier = told.notifier(command=(str(script),))
    for name in ("outside", "inside"):
        for state in ("backup", "active"):
            notifier.tell("INSTANCE", name, state, 1)
    for name in ("outside", "inside"):
        notifier.tell("INSTANCE", name, "init", 1)
    await notifier.close()
    assert (tmp_path / "out").read_text().splitlines() == [
        "outside BACKUP", "outside MASTER", "inside BACKUP", "inside MASTER", "outside STOP", "inside STOP"
    ]  # fmt: skip
    assert told == []


async def test_a_hanging_script_costs_no_other_its_end(told, tmp_path):
    """V20: at the end a script that hangs has its share of the time, and STOP is told within it."""
    script = tmp_path / "hanging"
    script.write_text(f"#!/bin/sh\necho $3 >> {tmp_path}/out\n[ $3 = STOP ] || sleep 60\n")
    script.chmod(0o755)
    notifier = told.notifier(command=(str(script),))
    for state in ("backup", "active", "init"):
        notifier.tell("INSTANCE", "outside", state, 1)
    await notifier.close(6)
    assert (tmp_path / "out").read_text().split() == ["BACKUP", "MASTER", "STOP"]
    assert ["longer than" in one for one in told] == [True, True]


async def test_the_end_may_be_hurried(told, tmp_path):
    """V20: who is in a hurry ends the script that is under way; what is not told any more is said."""
    script = tmp_path / "hanging"
    script.write_text(f"#!/bin/sh\necho $3 >> {tmp_path}/out\nsleep 60\n")
    script.chmod(0o755)
    notifier = told.notifier(command=(str(script),))
    notifier.tell("INSTANCE", "outside", "active", 1)
    notifier.tell("INSTANCE", "outside", "init", 1)
    ending = asyncio.create_task(notifier.close())
    await true((tmp_path / "out").exists)
    notifier.hurry()
    await ending
    assert (tmp_path / "out").read_text().split() == ["MASTER"]
    assert told[1:] == ["1 moves were not passed on before the end"]


async def test_a_failing_script_is_told(told, tmp_path):
    """V20: a script's exit code other than 0 is told."""
    script = tmp_path / "failing"
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o755)
    notifier = told.notifier(command=(str(script),))
    notifier.tell("INSTANCE", "outside", "active", 1)
    await notifier.close(10)
    assert told == [f"{script} ended with 3"]


async def test_nothing_that_blocks_holds_the_loop_up(told, script):
    """V17, V20: a file system that hangs while a script is looked at holds up the notifier's own thread and nobody else."""
    hanging = threading.Event()

    def check(path, _):
        hanging.wait(30)
        return path

    notifier = told.notifier(check, command=(str(script),))
    notifier.tell("INSTANCE", "outside", "active", 1)
    await asyncio.wait_for(notifier.close(0.1), 10)
    assert told == []
    hanging.set()


async def test_moves_that_wait_are_bounded(told, tmp_path):
    """V20: no more than 100 moves wait for a script, and it is said once that others are dropped."""
    script = tmp_path / "waiting"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/begun\nsleep 60\n")
    script.chmod(0o755)
    notifier = told.notifier(command=(str(script),))
    for number in range(WAITING + 70):
        notifier.tell("INSTANCE", "outside", "active", number)
    await true((tmp_path / "begun").exists)
    assert told == [f"{script} is {WAITING} moves behind: the oldest are dropped"]
    ending = asyncio.create_task(notifier.close())
    await asyncio.sleep(0)
    notifier.hurry()
    await ending
    left = int(told[-1].partition(" moves were not passed on before the end")[0])
    assert left in {WAITING, WAITING - 1}  # the thread took one before the queue was full, or after


async def test_a_reader_opens_the_fifo_once(told, tmp_path):
    """V20: a reader that opens the FIFO once gets every line, those from before it came as well, and no end in between."""
    path = tmp_path / "fifo"
    notifier = told.notifier(fifo=str(path))
    notifier.tell("INSTANCE", "outside", "active", 150)
    await true(path.exists)
    assert path.is_fifo()
    assert path.stat().st_mode & 0o777 == 0o600
    with await asyncio.to_thread(path.open) as reader:
        assert await asyncio.to_thread(reader.readline) == 'INSTANCE "outside" MASTER 150\n'
        for state, word in (("backup", "BACKUP"), ("active", "MASTER"), ("init", "STOP")):
            notifier.tell("INSTANCE", "outside", state, 150)
            assert await asyncio.to_thread(reader.readline) == f'INSTANCE "outside" {word} 150\n'
        await notifier.close()
        assert reader.readline() == ""
    assert told == []


async def test_a_reader_that_stops_reading_holds_nobody_up(told, tmp_path):
    """V20: lines for a full pipe wait for the reader up to the bound; the newest are those that it gets."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    notifier = told.notifier(fifo=str(path))
    for number in range(5000):
        notifier.tell("INSTANCE", "outside", "backup", number)
    assert "moves behind" in told[0]
    os.set_blocking(reader, True)

    def read() -> list[int]:
        with os.fdopen(reader) as lines:
            found = []
            for line in lines:
                found.append(int(line.split()[3]))
                if found[-1] == 4999:
                    return found
        return found

    numbers = await asyncio.to_thread(read)
    assert numbers == sorted(numbers)
    assert numbers[-WAITING:] == list(range(5000 - WAITING, 5000))
    await notifier.close()


async def test_a_full_fifo_holds_the_end_up_for_a_second(told, tmp_path):
    """V20: a pipe without room or reader costs the end a second, and what was not told is said."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    full = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while os.write(full, bytes(4096)):
            pass
    notifier = told.notifier(fifo=str(path))
    for state in ("backup", "init"):
        notifier.tell("INSTANCE", "outside", state, 1)
    await asyncio.wait_for(notifier.close(), 10)
    assert told == [f"{path} did not get outside BACKUP before the end", "1 moves were not passed on before the end"]
    os.close(full)


async def test_a_fifo_that_is_not_there_yet(told, tmp_path):
    """V20: lines wait for a FIFO whose directory is made later, and its absence is said once."""
    path = tmp_path / "run" / "fifo"
    notifier = told.notifier(fifo=str(path))
    notifier.tell("INSTANCE", "outside", "backup", 1)
    await true(lambda: told)
    path.parent.mkdir()
    await true(path.exists)
    reader = await asyncio.to_thread(path.open)
    assert await asyncio.to_thread(reader.readline) == 'INSTANCE "outside" BACKUP 1\n'
    await notifier.close()
    reader.close()
    assert told == [f"{path} cannot be opened: no such file or directory"]


async def test_all_that_waits_is_one_call(told, tmp_path):
    """V20: a script in batch mode gets the moves of a moment as lines of its input, in order, without arguments."""
    script = tmp_path / "batch"
    script.write_text(f"#!/bin/sh\n(echo call $#; cat) >> {tmp_path}/out\n")
    script.chmod(0o755)
    notifier = Notifier(NotifySettings(command=(str(script),), batch=True), told.append, allowed, gather=0.1)
    notifier.put([("BACKEND", f"dns/b{number}", "DOWN", "1", "no answer") for number in range(3000)])
    await true(lambda: notifier.counters["passed"])
    notifier.tell("INSTANCE", "outside", "active", 150)
    await notifier.close(10)
    lines = (tmp_path / "out").read_text().splitlines()
    assert (lines[:2], lines[-2:]) == (
        ["call 0", 'BACKEND "dns/b0" DOWN 1 no answer'],
        ["call 0", 'INSTANCE "outside" MASTER 150'],
    )
    assert (len(lines), dict(notifier.counters)) == (3003, {"passed": 3001, "failed": 0, "dropped": 0})
    assert told == []


async def test_moves_are_counted(told, tmp_path):
    """V20: each move counts as passed on, failed or dropped; those that wait are no loss yet."""
    script = tmp_path / "some"
    script.write_text(f"#!/bin/sh\n[ $3 = MASTER ] || exit 1\ntouch {tmp_path}/begun\nsleep 60\n")
    script.chmod(0o755)
    notifier = told.notifier(command=(str(script),))
    notifier.tell("INSTANCE", "outside", "backup", 1)
    notifier.tell("INSTANCE", "outside", "active", 2)
    await true((tmp_path / "begun").exists)
    for number in range(WAITING + 5):
        notifier.tell("INSTANCE", "outside", "backup", number)
    assert notifier.waiting == WAITING
    assert dict(notifier.counters) == {"passed": 0, "failed": 1, "dropped": 5}
    ending = asyncio.create_task(notifier.close())
    await asyncio.sleep(0)
    notifier.hurry()
    await ending
    assert (notifier.counters["failed"], notifier.counters["dropped"]) == (2, WAITING + 5)
