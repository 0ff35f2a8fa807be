"""The script probe, with real programs."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from health.probes import attempt_once, make, run_once, script
from health.probes.base import OurFault
from health.spec import ScriptProbe

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a shell script, which everybody may read, and returns its path."""
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.geteuid() and directory != Path("/") and directory != Path("/tmp"):
            directory.chmod(0o755)

    def one(text: str, name: str = "check", mode: int = 0o755) -> str:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(mode)
        return str(path)

    return one


@pytest.fixture
async def settled(leftovers) -> AsyncIterator[None]:
    """Count what is left after the test."""
    yield
    await leftovers.check()


async def run(*command: str, port: int = 53, **keys: object) -> tuple[bool, str, int | None, list[str]]:
    spec = ScriptProbe(command=command, **keys)
    outcome, lines = await attempt_once(make(spec), "192.0.2.1", port)
    return outcome.ok, outcome.reason, outcome.weight, lines


@pytest.mark.parametrize(
    ("code", "dynamic", "ok", "weight"),
    [(0, False, True, None), (0, True, True, None), (1, False, False, None), (1, True, False, None), (2, True, True, 0),
     (42, True, True, 40), (255, True, True, 253), (2, False, False, None), (255, False, False, None)],
)  # fmt: skip
async def test_exit_codes(write: Write, settled: None, code: int, dynamic: bool, ok: bool, weight: int | None) -> None:
    """H10: keepalived's exit statuses: 0 passes, 1 fails, 2 to 255 are a weight of 2 less, with dynamic-weight only."""
    found = await run(write(f"exit {code}"), dynamic_weight=dynamic)
    assert (found[0], found[2]) == (ok, weight)
    assert f"exit status {code}" in found[1]


async def test_placeholders_and_output(write: Write, settled: None) -> None:
    """H10, H13: {address} and {port} are filled in, nothing goes through a shell, and the reason shows the first line."""
    ok, reason, _, lines = await run(
        write('echo "$1|$2|$3"; echo more >&2; exit 1'), "{address}", "port {port}", "$(id); *"
    )
    assert not ok
    assert reason == 'exit status 1: "192.0.2.1|port 53|$(id); *"'
    assert '<- "more"' in lines
    assert lines[0].startswith("-> run /")


async def test_environment_is_minimal(write: Write, settled: None, monkeypatch) -> None:
    """S6, H10: the program gets none of our environment, no terminal, no input, the root directory, and default signals."""
    monkeypatch.setenv("STEELYARD_SECRET", "s3cret")
    before = signal.signal(signal.SIGHUP, lambda *_: None)
    try:
        _, _, _, lines = await run(write("/usr/bin/env; pwd; read x || echo no input; ls /proc/self/fd; exit 1"))
    finally:
        signal.signal(signal.SIGHUP, before)
    said = "\n".join(lines)
    assert "s3cret" not in said
    assert '<- "/"' in lines
    assert '<- "no input"' in lines


async def test_killed_with_its_group(write: Write, settled: None, tmp_path: Path) -> None:
    """H10, H4: at the timeout the program and all that it started are killed, though they ignore SIGTERM."""
    pids = anybodys(tmp_path / "pids")
    path = write(f"trap '' TERM; sleep 1000 & echo $$ $! > {pids}; echo started; wait")
    ok, reason, _, _ = await run(path, timeout=0.5)
    assert (ok, reason) == (False, "check did not end within 0.5 s")
    for pid in pids.read_text().split():
        await _is_gone(int(pid))


async def test_what_it_leaves_behind_is_killed(write: Write, settled: None, tmp_path: Path) -> None:
    """H4: a program that ends and leaves another one in the background is judged at once, and leaves nothing."""
    pids = anybodys(tmp_path / "pids")
    ok, reason, _, _ = await run(write(f"sleep 1000 & echo $! > {pids}; exit 0"), timeout=1.0, interval=2.0)
    assert ok, reason
    await _is_gone(int(pids.read_text()))


def anybodys(path: Path) -> Path:
    """Make a file that every user may write."""
    path.write_text("")
    path.chmod(0o666)
    return path


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"  # else reaped by init
    except FileNotFoundError:
        return False


async def _is_gone(pid: int) -> None:
    for _ in range(300):
        if not _lives(pid):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{pid} lives")


async def test_endless_output(write: Write, settled: None) -> None:
    """H4: a program that talks without end is killed after 64 KiB, long before its timeout."""
    ok, reason, _, lines = await run(write("exec yes"), timeout=5.0, interval=5.0)
    assert (ok, reason) == (False, "sends data without end: 64 KiB read")
    assert len(lines) < 20


async def test_killed_by_a_signal(write: Write, settled: None) -> None:
    """H13: a program that crashes fails with the signal's name."""
    assert (await run(write("kill -SEGV $$")))[1] == "killed by SIGSEGV"


async def test_cancelled_at_each_await(write: Write, cancelled_at, leftovers) -> None:
    """H4: wherever a run is cancelled, no process, descriptor or reader is left."""
    path = write("echo one; sleep 0.05; echo two")
    assert await cancelled_at(lambda: attempt_once(make(ScriptProbe(command=(path,))), "192.0.2.1", 1), leftovers) > 2


async def test_never_as_root(write: Write, settled: None) -> None:
    """S4: the program never runs as root, whichever user runs the probe."""
    _, _, _, lines = await run(write("id -u"))
    assert "-> as user" in "\n".join(lines) or os.geteuid() != 0
    assert '<- "0"' not in lines


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
async def test_as_the_user_that_the_daemon_has(write: Write) -> None:
    """S4, H10: by hand, root runs a script as the configured user, like the daemon, and never as root."""
    spec = ScriptProbe(command=(write("id -un"),))
    _, lines = await run_once(spec, "192.0.2.1", 1, "daemon")
    assert '<- "daemon"' in lines
    outcome, _ = await run_once(spec, "192.0.2.1", 1, "root")
    assert outcome.reason == "could not probe: scripts do not run as root, and this host has no user root"


async def test_root_without_another_user(write: Write, monkeypatch) -> None:
    """S4: if root finds no other user, the script does not run and the verdict stays."""
    monkeypatch.setattr(script, "USERS", ("no-such-user",))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(OurFault, match="scripts do not run as root"):
        await run(write("exit 0"))


@pytest.mark.parametrize("mode", [0o757, 0o777])
async def test_writable_by_others(write: Write, settled: None, mode: int) -> None:
    """S4: a program that others can write is not run, and nothing is said about the backend."""
    with pytest.raises(OurFault, match=r"not run: .*/check is writable by everybody"):
        await run(write("exit 0", mode=mode))


async def test_what_cannot_be_run(write: Write, settled: None) -> None:
    """H13: a program that is missing, or may not be run, is this host's fault, not the backend's."""
    with pytest.raises(OurFault, match=r"not run: /no/such: no such file or directory|not run: /no: no such file"):
        await run("/no/such")
    with pytest.raises(OurFault, match="cannot be run: Permission denied"):
        await run(write("exit 0", mode=0o644))
