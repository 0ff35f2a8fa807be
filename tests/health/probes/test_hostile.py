"""Every probe that speaks over TCP against servers that behave badly, at once or at any step of a good conversation."""

import asyncio
import itertools
import logging
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from health.probes import run_once
from health.spec import (
    DnsProbe,
    HttpProbe,
    ImapProbe,
    LdapProbe,
    MysqlProbe,
    PgsqlProbe,
    Pop3Probe,
    ProbeBase,
    RedisProbe,
    SmtpProbe,
    TcpProbe,
)
from tests.health.conftest import TcpServer
from tests.health.hostile import HOSTILE, Talk, endless_lines, hang_up, in_tls, mute, scripted, trickle

QUICK: dict[str, Any] = {"timeout": 0.25, "interval": 0.25}
CAPABLE = b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n"
# What a good server says: at once, and then after each line of the client.
GOOD: dict[str, list[bytes]] = {
    "smtp": [b"220 mail.example.net\r\n", b"250-mail.example.net\r\n250 SIZE\r\n", b"221 bye\r\n"],
    "smtp starttls": [b"220 mail.example.net\r\n", b"250-mail.example.net\r\n250 STARTTLS\r\n", b"220 go on\r\n"],
    "pop3": [b"+OK\r\n", b"+OK\r\n", b"+OK\r\n", b"+OK bye\r\n"],
    "pop3 starttls": [b"+OK\r\n", b"+OK\r\n"],
    "imap": [CAPABLE, b"a1 OK in\r\n", b"* BYE\r\na2 OK out\r\n"],
    "imap starttls": [CAPABLE, b"a1 OK go on\r\n"],
    "http": [
        b"HTTP/1.1 200 OK\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"4\r\nIt w\r\n",
        b"4\r\norks\r\n",
        b"0\r\n\r\n",
    ],
}


def spec_of(kind: str, password_file: str, **more: object) -> ProbeBase:
    """Return a probe that needs all that a good server says."""
    name, _, tls = kind.partition(" ")
    keys = {**QUICK, "tls": tls or "off", **more}
    if name in {"pop3", "imap"}:
        keys |= {"user": "probe", "password_file": password_file}
    digest = "e5b8b4ae5a9a4a4b0f7d9dbe3e07ba47"
    return {
        "smtp": lambda: SmtpProbe(**keys),
        "pop3": lambda: Pop3Probe(**keys),
        "imap": lambda: ImapProbe(**keys),
        "http": lambda: HttpProbe(**keys, body_digest=digest),
        "tcp": lambda: TcpProbe(**keys, expect="It works"),
        "ldap": lambda: LdapProbe(**keys, base="dc=example,dc=net", bind_dn="cn=probe", password_file=password_file),
        "dns": lambda: DnsProbe(**keys, query="example.net SOA", transport="tcp"),
        "mysql": lambda: MysqlProbe(**keys, user="probe", password_file=password_file),
        "pgsql": lambda: PgsqlProbe(**keys, user="probe", password_file=password_file),
        "redis": lambda: RedisProbe(**keys, password_file=password_file, role="primary"),
    }[name]()


@pytest.fixture
def password_file(tmp_path) -> str:
    """Return the path of a file with a password."""
    (tmp_path / "password").write_text("s3cret")
    return str(tmp_path / "password")


async def fails_in_time(spec: ProbeBase, port: int) -> str:
    """Assert that the probe fails by its deadline, for a reason other than a bug of its own; returns the reason."""
    begun = time.monotonic()
    outcome, lines = await run_once(spec, "127.0.0.1", port)
    assert time.monotonic() - begun < 2.0
    assert not outcome.ok
    assert outcome.reason
    assert outcome.reason.isprintable()
    assert all(line.isprintable() for line in lines)
    assert len(lines) < 60
    assert "broke down" not in outcome.reason
    return outcome.reason


@pytest.mark.parametrize("talk", HOSTILE, ids=lambda talk: talk.__name__)
@pytest.mark.parametrize("tls", ["", "implicit", "starttls"])
@pytest.mark.parametrize("name", ["tcp", "dns", "http", "ldap", "mysql", "pgsql", "redis", "smtp", "pop3", "imap"])
async def test_at_once(tcp_server, leftovers, password_file: str, name: str, tls: str, talk: Talk) -> None:
    """H4, H13, S9: whatever a server does from its first byte on, the probe ends in time, with a reason, and leaves nothing."""
    if (tls == "starttls" and name in {"tcp", "dns", "http", "redis"}) or (
        tls == "implicit" and name in {"mysql", "pgsql"}
    ):
        return
    _, port = await tcp_server(talk)
    leftovers.mark()
    await fails_in_time(spec_of(f"{name} {tls}".strip(), password_file), port)
    await leftovers.check()


@pytest.mark.parametrize("talk", HOSTILE, ids=lambda talk: talk.__name__)
@pytest.mark.parametrize("kind", sorted(GOOD))
async def test_at_each_step(tcp_server, leftovers, password_file: str, kind: str, talk: Talk) -> None:
    """H4, H13, S9: a server that turns bad after any step of a good conversation is found out in the same way."""
    replies = GOOD[kind]
    # A good STARTTLS conversation goes on to its end in clear text, where the handshake is due.
    steps = range(1, len(replies) + (" " in kind))
    ports = [(await tcp_server(scripted(replies[:step], talk, wait=kind != "http")))[1] for step in steps]
    leftovers.mark()
    spec = spec_of(kind, password_file)
    await asyncio.gather(*(fails_in_time(spec, port) for port in ports))
    await leftovers.check()


@pytest.mark.parametrize("talk", HOSTILE, ids=lambda talk: talk.__name__)
@pytest.mark.parametrize(
    "kind",
    [
        "tcp implicit",
        "dns implicit",
        "http implicit",
        "ldap implicit",
        "smtp implicit",
        "pop3 starttls",
        "imap implicit",
    ],
)
async def test_inside_tls(tcp_server, leftovers, pki, password_file: str, kind: str, talk: Talk) -> None:
    """H4, H13, S9: a server that is trusted and then behaves badly inside TLS is found out in the same way."""
    clear = GOOD[kind] if kind.endswith("starttls") else ()
    _, port = await tcp_server(in_tls(pki.server(), talk, after=clear))
    leftovers.mark()
    trust = {"tls_ca_file": str(pki.ca), "tls_name": "mail.example.net", "timeout": 0.5, "interval": 0.5}
    reason = await fails_in_time(spec_of(kind, password_file, **trust), port)
    assert "TLS handshake" not in reason
    await leftovers.check()


@pytest.mark.parametrize("kind", [*sorted(GOOD), "tcp"])
async def test_memory(tcp_server, password_file: str, kind: str) -> None:
    """H4: a server that talks without end costs less than a megabyte, and the reason says that it does."""
    for talk in HOSTILE[1:4]:
        _, port = await tcp_server(talk)
        spec = spec_of(kind, password_file)
        await run_once(spec, "127.0.0.1", port)  # what is imported and kept for good is not counted
        tracemalloc.start()
        try:
            await run_once(spec, "127.0.0.1", port)
            snapshot = tracemalloc.take_snapshot()
            own = [tracemalloc.Filter(True, "*/health/probes/*"), tracemalloc.Filter(True, "*/h11/*")]
            assert sum(trace.size for trace in snapshot.filter_traces(own).traces) < 200_000
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("kind", sorted(GOOD))
async def test_reads_no_more_than_its_bound(tcp_server, password_file: str, octets: list[int], kind: str) -> None:
    """H4: of an endless talk no more than 64 KiB are read, whichever step it begins at."""
    spec = spec_of(kind, password_file, timeout=5, interval=5)
    for step in range(len(GOOD[kind])):
        _, port = await tcp_server(scripted(GOOD[kind][:step], HOSTILE[2], wait=kind != "http"))
        octets.clear()
        outcome, _ = await run_once(spec, "127.0.0.1", port)
        assert outcome.latency < 2.0
        assert not outcome.ok
        assert 0 < sum(octets) <= 65536


@pytest.mark.parametrize(
    ("kind", "step", "talk", "reason"),
    [
        ("smtp", 0, mute, "the greeting did not come within 0.25 s"),
        ("smtp", 0, trickle, 'the greeting did not come within 0.25 s, only "2222'),
        ("smtp", 0, hang_up, "closed by the server before the greeting"),
        ("smtp", 0, endless_lines, 'not SMTP: the greeting was "* OK still here"'),
        ("smtp", 1, mute, "the answer to EHLO did not come within 0.25 s"),
        ("smtp", 2, hang_up, "closed by the server before the answer to QUIT"),
        ("smtp starttls", 2, hang_up, "closed by the server before the answer to STARTTLS"),
        ("smtp starttls", 3, hang_up, "closed by the server in the TLS handshake"),
        ("smtp starttls", 3, mute, "no answer to the TLS handshake within 0.25 s"),
        ("pop3", 1, mute, "the answer to USER did not come within 0.25 s"),
        ("pop3", 2, hang_up, "closed by the server before the answer to PASS"),
        ("pop3", 0, endless_lines, 'not POP3: the greeting was "220-and so on"'),
        ("imap", 1, mute, "the answer to LOGIN did not come within 0.25 s"),
        ("imap", 2, hang_up, "closed by the server before the answer to LOGOUT"),
        ("imap", 0, endless_lines, 'not IMAP: the greeting was "220-and so on"'),
        ("http", 0, mute, "no answer to the request within 0.25 s"),
        ("http", 0, hang_up, "closed by the server without an answer"),
        ("http", 0, endless_lines, 'not HTTP: answered "220-and so on'),
        ("http", 2, mute, "the body did not come whole within 0.25 s"),
        ("http", 3, hang_up, "closed by the server in the middle of its answer"),
    ],
)
async def test_reasons(tcp_server, password_file: str, kind: str, step: int, talk: Talk, reason: str) -> None:
    """H13: the reason names the step that was missing, and what came instead."""
    _, port = await tcp_server(scripted(GOOD[kind][:step], talk, wait=kind != "http"))
    assert (await fails_in_time(spec_of(kind, password_file), port)).startswith(reason)


@pytest.mark.parametrize("kind", ["smtp starttls", "pop3 starttls", "imap starttls"])
async def test_injected_before_tls(tcp_server, password_file: str, kind: str) -> None:
    """S9: clear text after the consent to TLS counts as an attack, not as the server's answer in TLS."""
    replies = [*GOOD[kind][:-1], GOOD[kind][-1] + b"+OK 250 a2 OK\r\n"]
    _, port = await tcp_server(scripted(replies))
    reason = await fails_in_time(spec_of(kind, password_file), port)
    assert reason == 'sent clear text after it had agreed to TLS: "+OK 250 a2 OK\\r\\n"'


WORDS = st.sampled_from(
    sorted(set(itertools.chain.from_iterable(GOOD.values())) | {b"* BYE\r\n", b"-ERR\r\n", b"a1 NO\r\n", b"+\r\n"})
)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from([*sorted(GOOD), "tcp", "tcp implicit", "http implicit", "smtp implicit"]),
    pieces=st.lists(st.one_of(st.binary(min_size=1, max_size=200), WORDS), max_size=6),
)
def test_any_bytes_are_harmless(tmp_path_factory, kind: str, pieces: list[bytes]) -> None:
    """S9, H4: whatever bytes come, good words among them, a probe ends in a verdict of its own and not in a bug."""
    path = tmp_path_factory.getbasetemp() / "any-password"
    path.write_text("s3cret")

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
        writer.write_eof()
        await reader.read(-1)

    async def once() -> None:
        server = TcpServer(talk)
        port = await server.start("127.0.0.1", 0)
        try:
            outcome, lines = await run_once(spec_of(kind, str(path), timeout=2, interval=2), "127.0.0.1", port)
        finally:
            await server.stop()
        assert "broke down" not in outcome.reason
        assert outcome.reason.isprintable()
        assert all(line.isprintable() for line in lines)

    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    asyncio.run(once())
