"""The session of the pgsql probe against scripted servers, good and hostile."""

import asyncio
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from health.probes import run_once
from health.probes.pgsqlsession import SCRAM_ROUNDS, _bounded
from health.spec import PgsqlProbe
from health.state import Outcome
from tests.health.conftest import TcpServer
from tests.health.hostile import Talk
from tests.health.pgsqlserver import (
    CLEAR,
    DONE,
    KEY,
    LOGGED_IN,
    OK,
    PREPARED,
    PRIMARY,
    READY,
    SASL,
    VERSION,
    at_once,
    data_row,
    error,
    message,
    number,
    row_description,
    scripted,
)  # fmt: skip

PASSWORD = "s3cret-of-the-probe"


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """Return the path of a file with the password."""
    (tmp_path / "password").write_text(PASSWORD)
    return str(tmp_path / "password")


async def ask(tcp_server, secret: str, talk: Talk, **keys: object) -> Outcome:
    """Return what one run against such a server finds."""
    _, port = await tcp_server(talk)
    spec = PgsqlProbe(**({"user": "probe", "password_file": secret, "timeout": 1, "interval": 1} | keys))
    outcome, lines = await run_once(spec, "127.0.0.1", port)
    assert PASSWORD not in "\n".join([outcome.reason, *lines])
    assert "broke down" not in outcome.reason
    return outcome


async def test_good(tcp_server, secret: str) -> None:
    """H8: a server that says what the documentation has passes."""
    outcome = await ask(tcp_server, secret, scripted(LOGGED_IN, PREPARED, PRIMARY))
    assert outcome.ok, outcome.reason
    assert outcome.reason.startswith("primary, answered in ")


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n"], 'not PostgreSQL: answered "HTTP/1.1 400 Bad Request\\r\\n"'),
        ([b"\x16\x03\x01\x02\x00"], "not PostgreSQL: answered "),
        ([b"RESPONSE to come"], 'not PostgreSQL: answered "RESPONSE to come"'),
        ([b"R\x40\0\0\0"], "announced a message of 1073741824 bytes, which no wanted answer has"),
        ([b"R\0\0\0\3"], "announced a message of 3 bytes"),
        ([error("28P01", "password authentication failed")], "login refused: wrong name or password (28P01: "),
        ([error("57P03", "the database system is starting up")], "the server takes no connections now (57P03: "),
        ([error("XX000", f"never say {PASSWORD}")], 'login refused: error XX000: "never say ****"'),
        ([error("", "")], "login refused: error : "),
        ([LOGGED_IN, error("42501", "permission denied", "ERROR") + READY], "query refused: the account may not do this"),
        ([LOGGED_IN, error("57P01", "terminating connection")], "the server is shutting down (57P01: "),
        ([LOGGED_IN], "closed by the server before it had answered"),
        ([OK], "closed by the server before it had answered"),
        ([LOGGED_IN, PREPARED, message("2") + DONE], "answered the question for its role with something else"),
        ([LOGGED_IN, message("1") + message("t", number(0, 2)) + row_description("a"),
          message("2") + data_row("false") + DONE], "answered the question for its role with something else"),
        ([message("R", number(99))], "could not probe: a login method that this probe lacks"),
        ([SASL, message("R", number(11) + b"r=x,s=AAAA,i=4096")], "malformed answer ("),
    ],
)  # fmt: skip
async def test_bad(tcp_server, secret: str, replies: list[bytes], reason: str) -> None:
    """H4, H13, S9: each wrong answer fails the probe in words."""
    outcome = await ask(tcp_server, secret, scripted(*replies))
    assert not outcome.ok
    assert outcome.reason.startswith(reason)


async def test_no_password_in_clear(tcp_server, secret: str) -> None:
    """S9: a server that asks for the password itself, without TLS, does not get it."""
    heard = b""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        writer.write(CLEAR)
        heard = await reader.read(-1)

    outcome = await ask(tcp_server, secret, talk)
    assert outcome.reason == "could not probe: the server wants the password in clear, which needs verified TLS"
    assert PASSWORD.encode() not in heard


async def test_text_before_tls(tcp_server, secret: str) -> None:
    """S9: what a server sends in clear behind its consent to TLS is taken for TLS, which it is not."""
    outcome = await ask(tcp_server, secret, scripted(b"S" + LOGGED_IN), tls="starttls", tls_verify=False)
    assert outcome.reason.startswith("not TLS: answered ")


@pytest.mark.parametrize(
    ("rounds", "allowed"), [(4096, True), (SCRAM_ROUNDS, True), (SCRAM_ROUNDS + 1, False), (2**63, False)]
)
def test_rounds(rounds: int, allowed: bool) -> None:
    """H5: a server cannot make us compute: more rounds of SCRAM than the bound are refused before the first one."""
    from health.probes.base import OurFault

    body = number(11) + f"r=abc,s=AAAA,i={rounds}".encode()
    if allowed:
        _bounded(body)
    else:
        with pytest.raises(OurFault, match="rounds of SCRAM"):
            _bounded(body)


PARTS = st.sampled_from([
    OK, CLEAR, SASL, VERSION, KEY, READY, LOGGED_IN, PREPARED, PRIMARY, DONE, error("28P01", "no"), data_row("a", None),
    row_description("a"), message("S", b"client_encoding\0nonsense\0"), message("n"), message("A", number(1) + b"a\0b\0"),
    message("N", b"Snote\0\0"), message("G", b"\0\0\0"), message("T", number(2, 2)), message("D", number(9, 2) + number(99)),
])  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    pieces=st.lists(st.one_of(st.binary(min_size=1, max_size=80), PARTS), max_size=8),
    query=st.sampled_from(["", "SELECT 1"]),
)
def test_any_bytes_are_harmless(tmp_path_factory, pieces: list[bytes], query: str) -> None:
    """S9, H4: whatever bytes come, good messages among them, a probe ends in a verdict of its own and not in a bug."""
    path = tmp_path_factory.getbasetemp() / "any-pgsql-password"
    path.write_text(PASSWORD)

    async def once() -> None:
        server = TcpServer(at_once(pieces))
        port = await server.start("127.0.0.1", 0)
        try:
            spec = PgsqlProbe(user="probe", password_file=str(path), query=query, timeout=2, interval=2)
            outcome, lines = await run_once(spec, "127.0.0.1", port)
        finally:
            await server.stop()
        assert "broke down" not in outcome.reason
        assert outcome.latency < 2 or outcome.latency != outcome.latency
        assert all(line.isprintable() for line in [outcome.reason, *lines])

    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    asyncio.run(once())
