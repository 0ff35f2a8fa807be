"""The session of the redis probe against scripted servers, good and hostile."""

import asyncio
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from health.probes import run_once
from health.spec import RedisProbe
from health.state import Outcome
from tests.health.conftest import TcpServer
from tests.health.hostile import Talk
from tests.health.pgsqlserver import at_once, scripted

PASSWORD = "s3cret-of-the-probe"
INFO = b"# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"
ANSWER = b"$%d\r\n%b\r\n" % (len(INFO), INFO)


async def ask(tcp_server, tmp_path: Path, talk: Talk) -> Outcome:
    """Return what one run against such a server finds."""
    (tmp_path / "password").write_text(PASSWORD)
    _, port = await tcp_server(talk)
    spec = RedisProbe(password_file=str(tmp_path / "password"), role="primary", timeout=1, interval=1)
    outcome, lines = await run_once(spec, "127.0.0.1", port)
    assert PASSWORD not in "\n".join([outcome.reason, *lines])
    assert "broke down" not in outcome.reason
    return outcome


async def test_good(tcp_server, tmp_path: Path) -> None:
    """H8: a server that says what the documentation has passes, also in pieces."""

    async def pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"+OK\r\n")
        await reader.read(65536)
        writer.write(b"+PONG\r\n")
        await reader.read(65536)
        for at in range(0, len(ANSWER), 7):
            writer.write(ANSWER[at : at + 7])
            await writer.drain()
            await asyncio.sleep(0.001)
        await reader.read(65536)

    for talk in (scripted(b"+OK\r\n", b"+PONG\r\n", ANSWER), pieces):
        outcome = await ask(tcp_server, tmp_path, talk)
        assert outcome.reason.startswith("primary, in "), outcome.reason


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n"], 'not Redis: answered "HTTP/1.1 400 Bad Request\\r\\n"'),
        ([b"-WRONGPASS invalid username-password pair\r\n"], "login refused: wrong name or password ("),
        ([b"-ERR invalid password\r\n"], "login refused: wrong name or password ("),
        ([b"-ERR never say " + PASSWORD.encode() + b"\r\n"], 'answered with an error: "ERR never say ****"'),
        ([b"+OK\r\n", b"-LOADING Redis is loading the dataset in memory\r\n"], "the server loads its data ("),
        ([b"+OK\r\n", b"-MISCONF Redis is configured to save\r\n"], "the server cannot save its data"),
        ([b"+OK\r\n", b"+PING\r\n"], "answered PING with something else"),
        ([b"+OK\r\n", b"*1\r\n+PONG\r\n"], "answered PING with something else"),
        ([b"+OK\r\n", b"+PONG\r\n", b"$-1\r\n"], "does not say its role"),
        ([b"+OK\r\n", b"+PONG\r\n", b":7\r\n"], "does not say its role"),
        (
            [b"+OK\r\n", b"+PONG\r\n", b"$1073741824\r\n"],
            "announced a string of 1073741824, which no wanted answer has",
        ),
        ([b"+OK\r\n", b"+PONG\r\n", b"$-5\r\n"], "announced a string of -5"),
        ([b"+OK\r\n", b"+PONG\r\n", b"*1000000000\r\n"], "announced a list of 1000000000"),
        ([b"+OK\r\n", b"+PONG\r\n", b"*1\r\n" * 5000], "malformed answer (RecursionError)"),
        ([b"+OK\r\n", b"+PONG\r\n", b"$x\r\n"], "malformed answer "),
        ([b"+OK\r\n", b"+PONG\r\n", b"$9\r\nabc"], "closed by the server after "),
        ([b"+" + b"x" * 2000], "sent a line of more than 1024 bytes"),
    ],
)
async def test_bad(tcp_server, tmp_path: Path, replies: list[bytes], reason: str) -> None:
    """H4, H13, S6, S9: each wrong answer fails the probe in words."""
    outcome = await ask(tcp_server, tmp_path, scripted(*replies))
    assert not outcome.ok
    assert outcome.reason.startswith(reason)


PARTS = st.sampled_from([
    b"+OK\r\n", b"+PONG\r\n", ANSWER, b"-ERR no\r\n", b":1\r\n", b"$-1\r\n", b"$-9\r\n", b"*-1\r\n", b"*2\r\n", b"$3\r\nabc\r\n",
    b"*64\r\n", b"\r\n", b"$", b"*", b"+",
])  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(pieces=st.lists(st.one_of(st.binary(min_size=1, max_size=80), PARTS), max_size=12))
def test_any_bytes_are_harmless(pieces: list[bytes]) -> None:
    """S9, H4: whatever bytes come, good answers among them, a probe ends in a verdict of its own and not in a bug."""

    async def once() -> None:
        server = TcpServer(at_once(pieces))
        port = await server.start("127.0.0.1", 0)
        try:
            outcome, lines = await run_once(RedisProbe(role="standby", timeout=2, interval=2), "127.0.0.1", port)
        finally:
            await server.stop()
        assert "broke down" not in outcome.reason
        assert outcome.latency < 2 or outcome.latency != outcome.latency
        assert all(line.isprintable() for line in [outcome.reason, *lines])

    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    asyncio.run(once())
