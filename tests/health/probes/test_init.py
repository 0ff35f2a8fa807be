"""One run of a probe: deadline, registry, transcript."""

import asyncio
import logging
import subprocess
import sys

import pytest

from health.probes import CLASSES, NotSupported, attempt_once, make, run_once
from health.probes.base import Attempt, Finding, OurFault, Probe
from health.spec import PROBE_TYPES, ImapProbe, ProbeBase, TcpProbe
from health.waiting import CannotWait


class Broken(Probe[TcpProbe]):
    """A probe with a bug."""

    async def check(self, attempt: Attempt) -> Finding:
        """Open something and break."""
        attempt.connect_udp()
        raise KeyError("no such thing")


class Deaf(Probe[TcpProbe]):
    """A probe that waits for ever."""

    async def check(self, attempt: Attempt) -> Finding:
        """Open something and wait."""
        attempt.connect_udp()
        attempt.missing = "no sign of life"
        await asyncio.get_running_loop().create_future()
        raise AssertionError


@pytest.mark.parametrize("kind", sorted(PROBE_TYPES))
def test_every_type_is_there(kind: str) -> None:
    """Each probe type of the configuration has its probe, in the module of its name."""
    assert kind in CLASSES


def test_unknown_types_say_so() -> None:
    """A probe type that this version lacks is refused in words rather than ignored."""
    with pytest.raises(NotSupported, match="probe type gopher is not supported by this version"):
        make(ProbeBase.model_construct(type="gopher"))


def test_libraries_come_with_their_probe() -> None:
    """A process that probes TCP only imports no library of another protocol, and `load_all` brings them all."""
    script = (
        "import sys; from health.probes import load_all, make; from health.spec import TcpProbe; make(TcpProbe()); "
        "few = {'aiomysql', 'ldap3', 'h11'} & set(sys.modules); load_all(); "
        "print(sorted(few), sorted({'aiomysql', 'ldap3', 'h11'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[] ['aiomysql', 'h11', 'ldap3']"


async def test_a_bug_shows_no_password(caplog, tmp_path) -> None:
    """S6: what a probe with a password broke down over is logged without the text of the exception, which may hold it."""
    path = tmp_path / "password"
    path.write_text("s3cret")

    class Leaky(Broken):
        async def check(self, attempt: Attempt) -> Finding:
            raise ValueError(self.secret())

    outcome, lines = await attempt_once(Leaky(ImapProbe(user="probe", password_file=str(path))), "127.0.0.1", 9)
    assert outcome.reason == "the probe broke down: ValueError"
    assert "in check" in caplog.text
    assert "s3cret" not in caplog.text + "".join(lines) + outcome.reason


async def test_run_once_refuses_too() -> None:
    """`check --live` hears of an unsupported type the same way."""
    with pytest.raises(NotSupported):
        await run_once(ProbeBase.model_construct(type="gopher"), "192.0.2.1", 70)


async def test_deadline_ends_any_probe(leftovers) -> None:
    """H4: a probe ends at its timeout, with what was missing as its reason, and leaves nothing open."""
    outcome, lines = await attempt_once(Deaf(TcpProbe(timeout=0.05)), "127.0.0.1", 9)
    assert (outcome.ok, outcome.reason) == (False, "no sign of life within 0.05 s")
    assert lines[-1] == "FAIL: no sign of life within 0.05 s"
    assert 0.05 <= outcome.latency < 0.5
    await leftovers.check()


async def test_a_bug_fails_the_probe(leftovers, caplog) -> None:
    """A probe that breaks down over what a server sent counts as failed, is logged, and leaves nothing open."""
    with caplog.at_level(logging.ERROR):
        outcome, _ = await attempt_once(Broken(TcpProbe()), "127.0.0.1", 9)
    assert (outcome.ok, outcome.reason) == (False, "the probe broke down: KeyError")
    assert "no such thing" in caplog.text
    await leftovers.check()


async def test_cancelling_closes(leftovers) -> None:
    """H4: a run that is cancelled raises the cancellation on and leaves nothing open."""
    task = asyncio.ensure_future(attempt_once(Deaf(TcpProbe()), "127.0.0.1", 9))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await leftovers.check()


async def test_what_cannot_be_watched_is_our_fault(leftovers) -> None:
    """T20: a socket that this host cannot watch says nothing about the backend."""

    class Unwatched(Deaf):
        async def check(self, attempt: Attempt) -> Finding:
            raise CannotWait("No space left on device")

    with pytest.raises(OurFault, match="No space left on device on this host"):
        await attempt_once(Unwatched(TcpProbe()), "127.0.0.1", 9)
    await leftovers.check()


async def test_nobody_wants_the_transcript(tcp_server) -> None:
    """A run that is not recording finds the same, and leaves no lines."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    _, port = await tcp_server(hang_up)
    outcome, lines = await attempt_once(make(TcpProbe()), "127.0.0.1", port, recording=False)
    assert outcome.ok
    assert lines == []


async def test_own_address_and_port_win(tcp_server) -> None:
    """A probe's own address and port are asked instead of the backend's."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    _, port = await tcp_server(hang_up)
    outcome, lines = await run_once(TcpProbe(address="127.0.0.1", port=port), "127.0.0.2", 9)
    assert outcome.ok
    assert lines[0] == f"-> connect 127.0.0.1:{port}/tcp"
