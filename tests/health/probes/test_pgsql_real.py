"""The pgsql probe against PostgreSQL: a primary and its standby, which is held up, cut off and promoted."""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from health.probes import attempt_once, make, run_once
from health.spec import PgsqlProbe
from health.state import Outcome
from tests.e2e.process import MissingError, program, until
from tests.health.databases import HOST, PASSWORD, USER, Authority
from tests.health.postgres import Postgres, binary


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """Return a directory that the server's user can enter, removed at the end."""
    try:
        binary("postgres")
        program("psql")
    except MissingError as error:
        pytest.fail(str(error)) if os.environ.get("CI") else pytest.skip(str(error))
    path = Path(tempfile.mkdtemp(prefix="steelyard-pgsql-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def authority(base: Path) -> Authority:
    """Return a certificate authority."""
    return Authority(base / "ca")


@pytest.fixture(scope="module")
def primary(base: Path, authority: Authority) -> Iterator[Postgres]:
    """Run the primary, which has TLS."""
    certificate, key = authority.certificate("db.example.net")
    (base / "tls").mkdir()
    place = base / "tls" / "key"
    shutil.copy(key, place)
    place.chmod(0o600)
    if not os.geteuid():
        shutil.chown(place, "postgres", "postgres")
    server = Postgres(base / "primary", "ssl=on", f"ssl_cert_file={certificate}", f"ssl_key_file={place}")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def standby(base: Path, primary: Postgres) -> Iterator[Postgres]:
    """Run a standby of the primary that has caught up."""
    server = Postgres(base / "standby", "ssl=off", follows=primary)
    server.start()
    until(lambda: server.sql("SELECT status FROM pg_stat_wal_receiver") == "streaming", 20, "the stream")
    until(lambda: server.caught_up(primary), 20, "the standby to catch up")
    yield server
    server.stop()
    shutil.rmtree(server.dir)


@pytest.fixture(scope="module")
def secret(base: Path) -> str:
    """Return the file with the probe's password."""
    path = base / "pgsql.pw"
    path.write_text(f"{PASSWORD}\n")
    return str(path)


def spec_of(secret: str, **keys: object) -> PgsqlProbe:
    """Return a probe of the database app."""
    return PgsqlProbe(
        **({"user": USER, "password_file": secret, "database": "app", "timeout": 5, "interval": 5} | keys)
    )


async def ask(server: Postgres, secret: str, **keys: object) -> Outcome:
    """Return what one run finds."""
    outcome, lines = await run_once(spec_of(secret, **keys), HOST, server.port)
    assert PASSWORD not in "\n".join([outcome.reason, *lines])
    return outcome


async def test_roles(primary: Postgres, standby: Postgres, secret: str) -> None:
    """H8: a primary is not in recovery, a standby is, and a promoted standby is a primary from the next run on."""
    servers = {"primary": primary, "standby": standby}
    found = {
        (name, role): await ask(server, secret, role=role)
        for name, server in servers.items()
        for role in ("any", "primary", "standby")
    }
    assert {at for at, outcome in found.items() if outcome.ok and not outcome.reserve} == {
        ("primary", "any"), ("primary", "primary"), ("standby", "any"), ("standby", "standby"),
    }  # fmt: skip
    assert found["primary", "standby"][:2] == (False, "is not a standby: it is not in recovery")
    assert found["standby", "primary"].reason == "is not a primary: it is in recovery"
    assert found["standby", "primary"].standby
    assert found["standby", "standby"].reason.startswith("standby 0 s behind, answered in ")
    assert found["standby", "standby"].lag == 0.0
    standby.sql("SELECT pg_promote()")
    assert (await ask(standby, secret, role="primary")).ok
    assert not (await ask(standby, secret, role="standby")).ok


async def test_lag(primary: Postgres, standby: Postgres, secret: str) -> None:
    """H8: a standby that replays nothing while its primary writes lags, goes to reserve, and comes back."""
    probe = make(spec_of(secret, role="standby", max_lag=0.5))

    async def run() -> Outcome:
        outcome, lines = await attempt_once(probe, HOST, standby.port)
        assert outcome.ok, lines
        return outcome

    assert not (await run()).reserve
    standby.sql("SELECT pg_wal_replay_pause()")
    primary.sql("INSERT INTO t VALUES (2, 'two')", database="app")
    until(lambda: standby.sql("SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()") == "t", 10, "the row")
    begun = time.monotonic()
    while not (late := await run()).reserve:
        assert time.monotonic() < begun + 10
        await asyncio.sleep(0.1)
    assert "is over max-lag (500ms)" in late.reason
    assert late.lag is not None
    assert 0.5 < late.lag < 10
    standby.sql("SELECT pg_wal_replay_resume()")
    until(lambda: standby.caught_up(primary), 10, "the standby to catch up")
    assert not (await run()).reserve


async def test_primary_that_died(primary: Postgres, standby: Postgres, secret: str) -> None:
    """H8: when the primary dies its standby goes to reserve, so that reads go on, and comes back with it."""
    primary.stop()
    try:
        until(lambda: standby.sql("SELECT count(*) FROM pg_stat_wal_receiver") == "0", 20, "the stream to end")
        outcome = await ask(standby, secret, role="standby")
        assert (outcome.ok, outcome.reserve) == (True, True)
        assert "replication is cut off: it has no connection to its primary" in outcome.reason
        assert not (await ask(standby, secret)).reserve
        assert (await ask(primary, secret)).reason == "connection refused"
    finally:
        primary.start()
    until(lambda: standby.sql("SELECT status FROM pg_stat_wal_receiver") == "streaming", 20, "the stream")
    assert not (await ask(standby, secret, role="standby")).reserve


async def test_refused(primary: Postgres, secret: str, tmp_path: Path) -> None:
    """H8: an unknown user, a wrong password and an unknown database are refused logins."""
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong\n")
    for keys in ({"user": "nobody"}, {"password_file": str(wrong)}, {"password_file": None}, {"database": "none"}):
        outcome = await ask(primary, secret, **keys)
        assert outcome.credentials_rejected, outcome
        assert outcome.reason.startswith("login refused: ")


async def test_ways_of_login(primary: Postgres, secret: str, authority: Authority) -> None:
    """H8, S9: SCRAM, MD5 and no password at all pass; a password in clear only over verified TLS; GSSAPI is our limit."""
    tls = {"tls": "starttls", "tls_ca_file": str(authority.path), "tls_name": "db.example.net"}
    for user in ("old", "trusted"):
        assert (await ask(primary, secret, user=user)).ok
    refused = await ask(primary, secret, user="clear")
    assert refused.reason == "could not probe: the server wants the password in clear, which needs verified TLS"
    assert not (await ask(primary, secret, user="clear", tls="starttls", tls_verify=False)).ok
    assert (await ask(primary, secret, user="clear", **tls)).ok
    assert (await ask(primary, secret, user="secure", **tls)).ok
    assert (await ask(primary, secret, user="secure")).credentials_rejected
    strange = await ask(primary, secret, user="strange")
    assert strange.reason.startswith("could not probe: a login method that this probe lacks")


async def test_tls(primary: Postgres, standby: Postgres, secret: str, authority: Authority) -> None:
    """H8: TLS amid the connection, verified: right name, wrong name, unknown authority, not verified, not offered."""
    trust = {"tls": "starttls", "tls_ca_file": str(authority.path)}
    assert (await ask(primary, secret, tls_name="db.example.net", **trust)).ok
    wrong = await ask(primary, secret, tls_name="x.example.net", **trust)
    assert wrong.reason == "certificate is for db.example.net, not x.example.net"
    assert "not trusted" in (await ask(primary, secret, tls="starttls", tls_name="db.example.net")).reason
    assert (await ask(primary, secret, tls="starttls", tls_verify=False)).ok
    assert (await ask(standby, secret, **trust)).reason == "the server offers no TLS"


@pytest.mark.parametrize(
    ("query", "expect", "reason"),
    [
        ("SELECT 1", "1", ""),
        ("SELECT true", "t", ""),
        ("SELECT words, id FROM t ORDER BY id", "one", ""),
        ("SELECT 1.50::numeric", "1.50", ""),
        ("SELECT NULL", None, ""),
        ("SELECT ARRAY[1,2]", "{1,2}", ""),
        ("SHOW server_encoding", "UTF8", ""),
        ("SELECT t FROM t WHERE id = 1", "(1,one)", ""),
        ("SELECT generate_series(1, 100000000)", "1", ""),
        ("SELECT 2", "1", 'the query returned "2", not "1"'),
        ("SELECT NULL", "1", 'the query returned NULL, not "1"'),
        ("SELECT 1 WHERE false", None, "the query returned no row"),
        ("SELECT nonsense", None, "query refused: error 42703: "),
        ("WITH x AS (INSERT INTO t VALUES (9, 'x') RETURNING id) SELECT id FROM x", None, "login|could not probe"),
    ],
)
async def test_query(primary: Postgres, secret: str, query: str, expect: str | None, reason: str) -> None:
    """H8: the first value of the first row decides, as psql shows it; a query that writes is refused by the server."""
    outcome = await ask(primary, secret, query=query, expect=expect)
    assert outcome.ok == (reason == ""), outcome.reason
    assert any(outcome.reason.startswith(part) for part in reason.split("|")) or outcome.ok


async def test_a_query_cannot_write(primary: Postgres, secret: str) -> None:
    """H8: even an account that may write writes nothing through a probe: the fault is ours, and the verdict stays."""
    primary.sql(f"GRANT INSERT ON t TO {USER}", database="app")
    query = "WITH x AS (INSERT INTO t VALUES (9, 'x') RETURNING id) SELECT id FROM x"
    outcome = await ask(primary, secret, query=query)
    assert outcome.reason.startswith("could not probe: the query writes, and a probe only reads (25006")
    assert primary.sql("SELECT count(*) FROM t WHERE id = 9", database="app") == "0"


async def test_slow_query(primary: Postgres, secret: str) -> None:
    """H4: a query that takes too long ends with the probe, and the server ends it as well."""
    outcome = await ask(primary, secret, query="SELECT pg_sleep(60)", timeout=0.5)
    assert not outcome.ok
    assert outcome.latency < 2
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
    until(lambda: primary.sql(running) == "0", 5, "the server to end the query")


async def test_too_many_connections(primary: Postgres, secret: str) -> None:
    """H8: a server without a free connection is full: fit for reserve, and not dead; the account's limit is ours."""
    with primary.crowded():
        outcome = await ask(primary, secret)
    assert (outcome.ok, outcome.reserve, outcome.full) == (True, True, True), outcome.reason
    assert outcome.reason.startswith("too many connections (53300: ")
    primary.sql(f"ALTER ROLE {USER} CONNECTION LIMIT 0")
    try:
        assert (await ask(primary, secret)).reason.startswith("could not probe: too many connections of this account")
    finally:
        primary.sql(f"ALTER ROLE {USER} CONNECTION LIMIT -1")


async def test_stopped_server(primary: Postgres, secret: str) -> None:
    """H4: a server that hangs (SIGSTOP) ends the probe at its timeout."""
    primary.proc.stop()
    try:
        outcome = await ask(primary, secret, timeout=0.3)
    finally:
        primary.proc.cont()
    assert (outcome.ok, outcome.reason) == (False, "no answer to the login within 0.3 s")


async def test_many_at_once(primary: Postgres, secret: str, leftovers) -> None:
    """H4, H5: runs at the same time neither mix nor leave anything open, and the server logs no broken connection."""
    leftovers.mark()
    roles = ("primary", "standby") * 3
    found = await asyncio.gather(*(ask(primary, secret, role=role) for role in roles))
    assert [outcome.ok for outcome in found] == [True, False] * 3
    await leftovers.check()
    assert "unexpected EOF" not in (primary.dir / "log").read_text()


async def test_transcript(primary: Postgres, secret: str) -> None:
    """H13: the transcript shows each step, and no password."""
    _, lines = await run_once(spec_of(secret, query="SELECT 7", expect="7"), HOST, primary.port)
    text = "\n".join(lines)
    assert 'login as "probe" with a password ****' in text
    assert "-> SELECT pg_is_in_recovery()" in text
    assert "-> SELECT 7" in text
    assert lines[-1].startswith('pass: primary, the query returned "7", answered in ')
