"""The imap probe against scripted servers on loopback: what dovecot does not do on request."""

from pathlib import Path

import pytest

from health.probes import run_once
from health.spec import ImapProbe
from tests.health.hostile import scripted

CAPABLE = b"* OK [CAPABILITY IMAP4rev1] ready\r\n"
OURS = "could not probe: "
BYE = b"* BYE\r\na2 OK\r\n"


async def ask(tcp_server, leftovers, tmp_path: Path, replies: list[bytes], password: str = "s3cret"):
    (tmp_path / "password").write_text(password)
    heard: list[bytes] = []
    _, port = await tcp_server(scripted(replies, heard=heard))
    leftovers.mark()
    spec = ImapProbe(user="probe", password_file=str(tmp_path / "password"))
    outcome, lines = await run_once(spec, "127.0.0.1", port)
    assert password not in "\n".join(lines) + outcome.reason
    return outcome, lines, heard


@pytest.mark.parametrize(
    ("replies", "reason", "rejected"),
    [
        ([CAPABLE, b"* 1 EXISTS\r\na1 OK in\r\n", BYE], "logged in in ", None),
        (
            [b"* OK hi\r\n", b"* CAPABILITY IMAP4rev1\r\na1 OK\r\n", b"a2 OK\r\n", b"* BYE\r\na3 OK\r\n"],
            "logged in in ",
            None,
        ),
        ([b"* PREAUTH known\r\n", b"* BYE\r\na1 OK\r\n"], "greeted in ", None),
        ([CAPABLE, b"a1 NO no s3cret\r\n"], 'login refused: the answer to LOGIN was "a1 NO no ****"', True),
        ([CAPABLE, b"a1 NO [UNAVAILABLE] later\r\n"], 'the answer to LOGIN was "a1 NO [UNAVAILABLE] later"', False),
        ([CAPABLE, b"* BYE full\r\n"], 'the answer to LOGIN was "* BYE full"', False),
        ([CAPABLE, b"a7 OK in\r\n"], 'not IMAP: the answer to LOGIN was "a7 OK in"', False),
        ([CAPABLE, b"a1 NO [SERVERBUG] oops\r\n"], 'the answer to LOGIN was "a1 NO [SERVERBUG] oops"', False),
        ([CAPABLE, b"a1 NO [AUTHENTICATIONFAILED] no\r\n"], "login refused: the answer to LOGIN was", True),
        ([CAPABLE, b"a1 NO [CONTACTADMIN] disabled\r\n"], "login refused: the answer to LOGIN was", True),
        ([b"* BYE too many\r\n"], 'the greeting was "* BYE too many"', False),
        ([b"* BYE [UNAVAILABLE] later\r\n"], 'the greeting was "* BYE [UNAVAILABLE] later"', False),
        ([b"* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] x\r\n"], f"{OURS}login refused: LOGINDISABLED", False),
        ([b"* OK\r\n", b"* CAPABILITY LOGINDISABLED\r\na1 OK\r\n"], f"{OURS}login refused: LOGINDISABLED", False),
        ([CAPABLE, b"a1 NO [LIMIT] userip\r\n"], f'{OURS}the answer to LOGIN was "a1 NO [LIMIT] userip"', False),
        ([CAPABLE, b"a1 NO [PRIVACYREQUIRED] TLS\r\n"], f"{OURS}the answer to LOGIN was", False),
        ([CAPABLE, b"a1 NO [INUSE] taken\r\n"], f"{OURS}the answer to LOGIN was", False),
    ],
)
async def test_login(
    tcp_server, leftovers, tmp_path: Path, replies: list[bytes], reason: str, rejected: bool | None
) -> None:
    """H10, S6: a refused login, a server in trouble and our own limits have different results; a repeated password is masked."""
    outcome, _, heard = await ask(tcp_server, leftovers, tmp_path, replies)
    assert outcome.ok == (rejected is None), outcome.reason
    assert outcome.reason.startswith(reason)
    assert outcome.credentials_rejected == bool(rejected)
    if "LOGINDISABLED" in reason:
        assert not any(b"s3cret" in line for line in heard)
    await leftovers.check()


async def test_full(tcp_server, leftovers, tmp_path: Path) -> None:
    """H10: a server that greets with BYE because of a limit is full: fit for reserve, and not dead."""
    outcome, _, _ = await ask(tcp_server, leftovers, tmp_path, [b"* BYE [LIMIT] too many connections\r\n"])
    assert (outcome.ok, outcome.reserve, outcome.full) == (True, True, True)


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("two words", [b'a1 LOGIN "probe" "two words"\r\n']),
        ('q"u\\ote', [b'a1 LOGIN "probe" "q\\"u\\\\ote"\r\n']),
        ("na\u00efve", [b'a1 LOGIN "probe" {6}\r\n', "na\u00efve\r\n".encode()]),
        ("one\r\na9 DELETE x", [b'a1 LOGIN "probe" {16}\r\n', b"one\r\n", b"a9 DELETE x\r\n"]),
    ],
)
async def test_passwords(tcp_server, leftovers, tmp_path: Path, password: str, said: list[bytes]) -> None:
    """H10, S6: any password is carried as it is, quoted or as a literal whose length is told, and never shown."""
    replies = [CAPABLE, *[b"+ go on\r\n"] * (len(said) > 1), *[b""] * (len(said) > 2), b'a1 NO "q\\"u\\\\ote"\r\n']
    outcome, lines, heard = await ask(tcp_server, leftovers, tmp_path, replies, password)
    assert heard[: len(said)] == said
    assert outcome.credentials_rejected
    assert "u\\\\ote" not in str(lines) or password != 'q"u\\ote'
