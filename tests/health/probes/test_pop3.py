"""The pop3 probe against scripted servers on loopback: what dovecot does not do on request."""

from pathlib import Path

import pytest

from health.probes import run_once
from health.spec import Pop3Probe
from tests.health.hostile import scripted


@pytest.mark.parametrize(
    ("replies", "reason", "rejected"),
    [
        ([b"+OK\r\n", b"+OK\r\n", b"+OK\r\n", b"+OK\r\n"], "logged in in ", None),
        ([b"+OK\r\n", b"+OK\r\n", b"-ERR [IN-USE] locked\r\n", b"+OK\r\n"], "logged in (mailbox in use) in ", None),
        ([b"+OK\r\n", b"+OK\r\n", b"-ERR no\r\n"], 'login refused: the answer to PASS was "-ERR no"', True),
        ([b"+OK\r\n", b"-ERR who\r\n"], 'login refused: the answer to USER was "-ERR who"', True),
        (
            [b"+OK\r\n", b"+OK\r\n", b"-ERR [AUTH] bad s3cret\r\n"],
            'login refused: the answer to PASS was "-ERR [AUTH] bad ****"',
            True,
        ),
        (
            [b"+OK\r\n", b"+OK\r\n", b"-ERR [SYS/TEMP] later\r\n"],
            'the answer to PASS was "-ERR [SYS/TEMP] later"',
            False,
        ),
        (
            [b"+OK\r\n", b"+OK\r\n", b"-ERR [LOGIN-DELAY] wait\r\n"],
            'could not probe: the answer to PASS was "-ERR [LOGIN-DELAY] wait": use a longer interval',
            False,
        ),
        ([b"-ERR full\r\n"], 'the greeting was "-ERR full"', False),
        ([b"* OK IMAP\r\n"], 'not POP3: the greeting was "* OK IMAP"', False),
    ],
)
async def test_login(
    tcp_server, leftovers, tmp_path: Path, replies: list[bytes], reason: str, rejected: bool | None
) -> None:
    """H10, S6: a refused login, a server in trouble and our own limits have different results; a repeated password is masked."""
    (tmp_path / "password").write_text("s3cret\n")
    heard: list[bytes] = []
    _, port = await tcp_server(scripted(replies, heard=heard))
    leftovers.mark()
    spec = Pop3Probe(user="probe", password_file=str(tmp_path / "password"))
    outcome, lines = await run_once(spec, "127.0.0.1", port)
    assert outcome.ok == (rejected is None)
    assert outcome.reason.startswith(reason)
    assert outcome.credentials_rejected == bool(rejected)
    assert "s3cret" not in "\n".join(lines) + outcome.reason
    if outcome.ok:
        assert heard[:3] == [b"USER probe\r\n", b"PASS s3cret\r\n", b"QUIT\r\n"]
    await leftovers.check()


async def test_password_of_two_lines(tcp_server, tmp_path: Path) -> None:
    """S9: a password that would smuggle a second command in is refused before anything is sent, and not shown."""
    (tmp_path / "password").write_text("one\r\nDELE 1")
    server, port = await tcp_server(scripted([b"+OK\r\n"]))
    spec = Pop3Probe(user="probe", password_file=str(tmp_path / "password"))
    outcome, _ = await run_once(spec, "127.0.0.1", port)
    assert outcome.reason.startswith("could not probe: ")
    assert "DELE" not in outcome.reason
    assert server.accepted == 0
