"""The smtp probe against scripted servers on loopback: what postfix does not do."""

import socket

import pytest

from health.probes import run_once
from health.spec import SmtpProbe
from tests.health.hostile import scripted


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ([b"220-one\r\n220 two\r\n", b"250 hello\r\n", b"221\r\n"], ""),
        ([b"554 no service\r\n"], 'the greeting was "554 no service", not 220'),
        ([b"220 x\r\n", b"502 unknown\r\n"], 'the answer to EHLO was "502 unknown", not 250'),
        ([b"220 x\r\n", b"250 x\r\n", b"451 no\r\n"], 'the answer to QUIT was "451 no", not 221'),
        ([b"+OK POP3 ready\r\n"], 'not SMTP: the greeting was "+OK POP3 ready"'),
    ],
)
async def test_replies(tcp_server, leftovers, replies: list[bytes], reason: str) -> None:
    """H10, H13: the probe expects the codes 220, 250 and 221 in turn, also in multi-line replies; the reason quotes any other."""
    heard: list[bytes] = []
    _, port = await tcp_server(scripted(replies, heard=heard))
    leftovers.mark()
    outcome, _ = await run_once(SmtpProbe(), "127.0.0.1", port)
    assert outcome.ok == (not reason), outcome.reason
    assert outcome.reason.startswith(reason or "answered EHLO in ")
    if outcome.ok:
        assert heard[:2] == [f"EHLO {socket.gethostname()}\r\n".encode(), b"QUIT\r\n"]
    await leftovers.check()


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ([b"554 5.7.1 not you\r\n"], 'the greeting was "554 5.7.1 not you", not 220'),
        ([b"220 x\r\n", b"501 bad name\r\n"], 'the answer to EHLO was "501 bad name", not 250'),
        ([b"220 x\r\n", b"504 5.5.2 not qualified\r\n"], 'the answer to EHLO was "504 5.5.2 not qualified", not 250'),
        ([b"220 x\r\n", b"550 no\r\n"], 'the answer to EHLO was "550 no", not 250'),
    ],
)
async def test_our_own_limits(tcp_server, replies: list[bytes], reason: str) -> None:
    """H10: a server that wants neither this host nor its name is not dead for that: the run counts as one not made."""
    _, port = await tcp_server(scripted(replies))
    outcome, lines = await run_once(SmtpProbe(), "127.0.0.1", port)
    assert (outcome.ok, outcome.reason) == (False, f"could not probe: {reason}")
    assert "-> QUIT" in lines


@pytest.mark.parametrize(
    "replies",
    [
        [b"421-too\r\n421 busy\r\n"],
        [b"421 4.7.0 too many connections from 192.0.2.1\r\n"],
        [b"220 x\r\n", b"421 4.3.2 later\r\n"],
    ],
)
async def test_full(tcp_server, replies: list[bytes]) -> None:
    """H10: 421 is a server without room: fit for reserve, and not dead."""
    _, port = await tcp_server(scripted(replies))
    outcome, _ = await run_once(SmtpProbe(), "127.0.0.1", port)
    assert (outcome.ok, outcome.reserve, outcome.full) == (True, True, True)
    assert ' was "421 ' in outcome.reason


async def test_starttls_that_fails(tcp_server) -> None:
    """H10: 454 to STARTTLS is the server's failure: no client gets TLS from it."""
    _, port = await tcp_server(scripted([b"220 x\r\n", b"250-x\r\n250 STARTTLS\r\n", b"454 4.7.0 no\r\n"]))
    outcome, _ = await run_once(SmtpProbe(tls="starttls"), "127.0.0.1", port)
    assert (outcome.ok, outcome.reason) == (False, 'the answer to STARTTLS was "454 4.7.0 no", not 220')


async def test_line_break_in_helo(tcp_server) -> None:
    """S9: a helo that would smuggle a second command in is refused before anything is sent."""
    server, port = await tcp_server(scripted([b"220 x\r\n"]))
    outcome, _ = await run_once(SmtpProbe(helo="x\r\nMAIL FROM:<>"), "127.0.0.1", port)
    assert outcome.reason == "could not probe: helo holds a line break, which the protocol cannot carry"
    assert server.accepted == 0
