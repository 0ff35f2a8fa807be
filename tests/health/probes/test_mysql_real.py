"""The mysql probe against MariaDB: a source and its replica, which is stopped, delayed and broken, and a Galera cluster."""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from health.probes import attempt_once, make, run_once
from health.spec import MysqlProbe
from health.state import Outcome
from tests.e2e.process import MissingError, program, until
from tests.health.databases import HOST, PASSWORD, USER, Authority, Galera, MariaDb


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """Return a directory that a server can read when it has dropped its rights, removed at the end."""
    try:
        for name in ("mariadbd", "mariadb-install-db"):
            program(name)
    except MissingError as error:
        pytest.fail(str(error)) if os.environ.get("CI") else pytest.skip(str(error))
    path = Path(tempfile.mkdtemp(prefix="steelyard-mysql-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def provider() -> None:
    """Skip without Galera's library, but never under CI."""
    if not Path("/usr/lib/galera/libgalera_smm.so").exists():
        message = "galera-4 is not installed"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


@pytest.fixture(scope="module")
def authority(base: Path) -> Authority:
    """Return a certificate authority."""
    return Authority(base / "ca")


@pytest.fixture(scope="module")
def source(base: Path, authority: Authority) -> Iterator[MariaDb]:
    """Run the source, which has TLS."""
    certificate, key = authority.certificate("db.example.net")
    server = MariaDb(
        base / "source",
        1,
        f"--ssl-cert={certificate}",
        f"--ssl-key={key}",
        "--max-connections=12",
        f"--proxy-protocol-networks={HOST}",
    )
    server.start()
    server.sql("CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY) ENGINE=InnoDB")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def replica(base: Path, source: MariaDb) -> Iterator[MariaDb]:
    """Run a replica of the source."""
    server = MariaDb(
        base / "replica", 2, "--read-only=1", "--slave-net-timeout=2", "--skip-ssl"
    )  # on by default from 11.4 on
    server.start()
    server.replicate(source)
    server.until("Slave_IO_Running", "Yes")
    until(lambda: server.sql("SHOW TABLES FROM app"), 20, "the table to arrive")
    yield server
    server.stop()


@pytest.fixture
def fresh(source: MariaDb, replica: MariaDb) -> Iterator[MariaDb]:
    """Return the replica, which replicates without a lag again afterwards."""
    yield replica
    replica.sql("STOP ALL SLAVES")
    names = [row["Connection_name"] for row in replica.sql("SHOW ALL SLAVES STATUS")]
    replica.sql(*(f"RESET SLAVE '{name}' ALL" for name in names), "RESET MASTER", "SET GLOBAL gtid_slave_pos = ''")
    replica.sql("DROP DATABASE IF EXISTS app")
    replica.replicate(source)
    replica.until("Slave_SQL_Running", "Yes")
    replica.until("Slave_IO_Running", "Yes")
    caught_up(source, replica)


@pytest.fixture(scope="module")
def secret(base: Path) -> str:
    """Return the file with the probe's password."""
    path = base / "mysql.pw"
    path.write_text(f"{PASSWORD}\n")
    return str(path)


async def ask(server: MariaDb, secret: str, role: str = "any", **keys: object) -> Outcome:
    """Return what one run finds."""
    spec = MysqlProbe(**({"user": USER, "password_file": secret, "role": role, "timeout": 5, "interval": 5} | keys))
    outcome, lines = await run_once(spec, HOST, server.port)
    assert PASSWORD not in "\n".join([outcome.reason, *lines])
    return outcome


def caught_up(source: MariaDb, replica: MariaDb) -> None:
    """Wait until the replica has all that the source has."""
    position = source.sql("SELECT @@gtid_binlog_pos at")[0]["at"]
    assert replica.sql(f"SELECT MASTER_GTID_WAIT('{position}', 20) late")[0]["late"] == 0
    replica.until("Seconds_Behind_Master", 0)


@contextlib.contextmanager
def behind(source: MariaDb, replica: MariaDb, number: int, seconds: int) -> Iterator[None]:
    """Hold the replica up over a row that is so old; afterwards it has all that the source has.

    The lag that MariaDB tells goes by the times in the source's log.
    """
    with replica.connect() as session, session.cursor() as cursor:
        cursor.execute("FLUSH TABLES WITH READ LOCK")
        source.sql(f"SET timestamp = UNIX_TIMESTAMP() - {seconds}", f"INSERT INTO app.t VALUES ({number})")
        until(lambda: (replica.status()["Seconds_Behind_Master"] or 0) >= seconds, 20, f"a lag of {seconds} s")
        yield
    caught_up(source, replica)


async def test_roles(source: MariaDb, replica: MariaDb, secret: str) -> None:
    """H8: a source is a writer, a replica a replica; replica-first keeps the writer in reserve."""
    found = {
        (server.number, role): await ask(server, secret, role)
        for server in (source, replica)
        for role in ("any", "writer", "replica", "replica-first", "galera")
    }
    fit = {at for at, outcome in found.items() if outcome.ok and not outcome.reserve}
    assert fit == {(1, "any"), (1, "writer"), (2, "any"), (2, "replica"), (2, "replica-first")}
    assert {at for at, outcome in found.items() if outcome.reserve} == {(1, "replica-first")}
    assert found[1, "replica"].reason == "is not a replica: read_only is off"
    assert found[2, "writer"].reason == "is not a writer: read_only is on"
    assert "Galera" in found[1, "galera"].reason


async def test_promotion(source: MariaDb, fresh: MariaDb, secret: str) -> None:
    """H8: a replica that is promoted is a writer from the next run on, and one demoted none."""
    fresh.sql("SET GLOBAL read_only = 0")
    try:
        assert (await ask(fresh, secret, "writer")).ok
        assert (await ask(fresh, secret, "replica")).reason == "is not a replica: read_only is off"
    finally:
        fresh.sql("SET GLOBAL read_only = 1")
    assert not (await ask(fresh, secret, "writer")).ok


async def test_refused(source: MariaDb, secret: str, tmp_path: Path) -> None:
    """H8: an unknown user and a wrong password are refused logins, which a missing right is too."""
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong\n")
    for keys in ({"user": "nobody"}, {"password_file": str(wrong)}, {"password_file": None}):
        outcome = await ask(source, secret, **keys)
        assert outcome.credentials_rejected
        assert outcome.reason.startswith("login refused: access denied (1045")


async def test_missing_right(replica: MariaDb, secret: str) -> None:
    """H8: if the account may not see the replication, the reason names the privilege that it needs."""
    outcome = await ask(replica, secret, "replica", user="bare")
    assert outcome.credentials_rejected
    assert "SLAVE MONITOR" in outcome.reason


async def test_tls(source: MariaDb, replica: MariaDb, secret: str, authority: Authority) -> None:
    """H8: TLS amid the connection, verified: right name, wrong name, unknown authority, not verified, not offered."""
    trust = {"tls": "starttls", "tls_ca_file": str(authority.path)}
    assert (await ask(source, secret, tls_name="db.example.net", **trust)).ok
    wrong = await ask(source, secret, tls_name="x.example.net", **trust)
    assert wrong.reason == "certificate is for db.example.net, not x.example.net"
    unknown = await ask(source, secret, tls="starttls", tls_name="db.example.net")
    assert "not trusted" in unknown.reason
    assert (await ask(source, secret, tls="starttls", tls_verify=False)).ok
    assert (await ask(replica, secret, **trust)).reason == "offers no TLS"


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_proxy_header(source: MariaDb, secret: str, version: str) -> None:
    """H8: a server that expects PROXY headers lets us in with ours."""
    assert (await ask(source, secret, send_proxy=version)).ok


async def test_clean_leave(source: MariaDb, secret: str) -> None:
    """H8: passing and failing runs end with a goodbye: the server counts no aborted client."""
    count = "SHOW GLOBAL STATUS LIKE 'Aborted_c%'"
    before = source.sql(count)
    for role in ("any", "writer", "replica", "replica-first", "galera"):
        await ask(source, secret, role)
    sessions = "SELECT COUNT(*) n FROM information_schema.PROCESSLIST WHERE user = 'probe'"
    until(lambda: source.sql(sessions)[0]["n"] == 0, 5, "the sessions to end")
    assert source.sql(count) == before


async def test_too_many_connections(source: MariaDb, secret: str) -> None:
    """H8: a server without a free connection is full: fit for reserve, and not dead."""
    held: list[pymysql.Connection] = []
    try:
        with pytest.raises(pymysql.err.OperationalError):  # noqa: PT012 - which of them is refused does not matter
            for _ in range(50):
                held.append(source.connect("bare", PASSWORD))  # noqa: PERF401 - those before the refused one are held
        outcome = await ask(source, secret)
    finally:
        for one in held:
            one.close()
    assert (outcome.ok, outcome.reserve, outcome.full) == (True, True, True)
    assert outcome.reason == "too many connections (error 1040)"


async def test_limit_of_the_account(source: MariaDb, secret: str) -> None:
    """H8: the connection limit of the probe's account is our limit, and the server is not down."""
    alone = "SET sql_log_bin = 0"
    source.sql(alone, f"ALTER USER '{USER}'@'%' WITH MAX_USER_CONNECTIONS 1")
    held = source.connect(USER, PASSWORD)
    try:
        outcome = await ask(source, secret)
    finally:
        held.close()
        source.sql(alone, f"ALTER USER '{USER}'@'%' WITH MAX_USER_CONNECTIONS 0")
    assert outcome.reason == "could not probe: the account has reached a resource limit (error 1226)"


async def test_plugin_that_the_probe_lacks(source: MariaDb, secret: str) -> None:
    """H8: a password plugin that the probe lacks is our limit; the server does not block this host for what it meets."""
    alone = "SET sql_log_bin = 0"  # the replica lacks the plugin
    made = f"CREATE USER modern@'%' IDENTIFIED VIA ed25519 USING PASSWORD('{PASSWORD}')"
    source.sql(alone, "SET GLOBAL max_connect_errors = 2", "INSTALL SONAME 'auth_ed25519'", made)
    try:
        for _ in range(4):
            outcome = await ask(source, secret, user="modern")
            plugin = "the server asks for a password plugin that this probe lacks"
            assert outcome.reason == f'could not probe: {plugin}: "client_ed25519"'
        assert (await ask(source, secret)).ok
    finally:
        source.sql(alone, "DROP USER modern@'%'", "UNINSTALL SONAME 'auth_ed25519'")
        source.sql("SET GLOBAL max_connect_errors = 100")


@pytest.mark.parametrize(("statement", "label"), [("STOP SLAVE IO_THREAD", "IO"), ("STOP SLAVE SQL_THREAD", "SQL")])
async def test_stopped(fresh: MariaDb, secret: str, statement: str, label: str) -> None:
    """H8: a replica whose IO or SQL thread was stopped fails, and passes when it runs again."""
    fresh.sql(statement)
    for role in ("replica", "replica-first"):
        outcome = await ask(fresh, secret, role)
        assert not outcome.ok
        assert outcome.reason == f"replication stopped: the {label} thread does not run"
    fresh.sql("START SLAVE")
    fresh.until("Slave_IO_Running", "Yes")
    assert (await ask(fresh, secret, "replica")).ok


async def test_broken(source: MariaDb, fresh: MariaDb, secret: str) -> None:
    """H8, H13: a replica that broke over a row that it had already fails with the server's error."""
    fresh.sql("SET sql_log_bin = 0", "INSERT INTO app.t VALUES (100)")
    source.sql("INSERT INTO app.t VALUES (100)")
    fresh.until("Slave_SQL_Running", "No")
    outcome = await ask(fresh, secret, "replica")
    assert not outcome.ok
    assert outcome.reason.startswith("replication stopped: the SQL thread does not run (error 1062: ")


async def test_reset(fresh: MariaDb, secret: str) -> None:
    """H8: a read-only server that no longer replicates fails."""
    fresh.sql("STOP SLAVE", "RESET SLAVE ALL")
    assert (await ask(fresh, secret, "replica")).reason == "is read-only, but replicates from no server"


async def test_lag(source: MariaDb, fresh: MariaDb, secret: str) -> None:
    """H8: a replica over max-lag goes to reserve, stays there until recover-lag, and comes back."""
    spec = MysqlProbe(
        user=USER, password_file=secret, role="replica", max_lag=300, recover_lag=100, timeout=5, interval=5
    )
    probe = make(spec)

    async def reserve() -> bool:
        outcome, lines = await attempt_once(probe, HOST, fresh.port)
        assert outcome.ok, lines
        return outcome.reserve

    with behind(source, fresh, 201, 200):
        assert not await reserve()
    with behind(source, fresh, 202, 400):
        assert await reserve()
    with behind(source, fresh, 203, 200):
        assert await reserve()
    assert not await reserve()


async def test_delayed(source: MariaDb, fresh: MariaDb, secret: str) -> None:
    """H8: a replica with a configured delay lags like any other."""
    fresh.sql("STOP SLAVE", "CHANGE MASTER TO MASTER_DELAY=3600", "START SLAVE")
    source.sql("SET timestamp = UNIX_TIMESTAMP() - 200", "INSERT INTO app.t VALUES (300)")
    until(lambda: (fresh.status()["Seconds_Behind_Master"] or 0) >= 200, 20, "a lag of 200 s")
    assert not (await ask(fresh, secret, "replica", max_lag=3000)).reserve
    found = await ask(fresh, secret, "replica", max_lag=100)
    assert (found.ok, found.reserve) == (True, True)
    assert "is over max-lag (100s)" in found.reason


async def test_lag_query(source: MariaDb, fresh: MariaDb, secret: str) -> None:
    """H8: a lag-query over a heartbeat table decides instead of what the server says."""
    source.sql(
        "CREATE TABLE app.heartbeat (ts DATETIME(6))", "INSERT INTO app.heartbeat VALUES (NOW(6) - INTERVAL 90 SECOND)"
    )
    source.sql(f"GRANT SELECT ON app.heartbeat TO '{USER}'@'%'")
    fresh.sql("SET sql_log_bin = 0", f"GRANT SELECT ON app.heartbeat TO '{USER}'@'%'")
    until(lambda: fresh.sql("SELECT * FROM app.heartbeat"), 20, "the heartbeat")
    query = "SELECT TIMESTAMPDIFF(MICROSECOND, MAX(ts), NOW(6)) / 1e6 FROM app.heartbeat"
    found = await ask(fresh, secret, "replica", max_lag=60, lag_query=query)
    assert (found.ok, found.reserve) == (True, True)
    assert found.reason.startswith("replica 9")
    found = await ask(fresh, secret, "replica", max_lag=600, lag_query=query)
    assert (found.ok, found.reserve) == (True, False)


@pytest.mark.parametrize(
    ("query", "expect", "reason"),
    [
        ("SELECT 1", "1", ""),
        ("SELECT id, id FROM app.w ORDER BY id", "1", ""),
        ("SHOW DATABASES", None, ""),
        ("SELECT NULL", None, ""),
        ("SELECT 2", "1", 'the query returned "2", not "1"'),
        ("SELECT 1 FROM app.w WHERE id = 7", None, "the query returned no row"),
        ("SELECT * FROM app.none", None, "query refused: error 1146: "),
        ("WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i FROM n", "1", ""),
    ],
)
async def test_query(source: MariaDb, secret: str, query: str, expect: str | None, reason: str) -> None:
    """H8: the first value of the first row of a configured query decides."""
    alone = "SET sql_log_bin = 0"
    source.sql(alone, "CREATE OR REPLACE TABLE app.w (id INT) ENGINE=InnoDB", "INSERT INTO app.w VALUES (1), (2)")
    source.sql(alone, f"GRANT SELECT, INSERT ON app.* TO '{USER}'@'%'")
    outcome = await ask(source, secret, query=query, expect=expect)
    assert outcome.ok == (reason == ""), outcome.reason
    assert outcome.ok or outcome.reason.startswith(reason)


async def test_a_query_cannot_write(source: MariaDb, secret: str) -> None:
    """H8: the server refuses a query that writes, whatever the account may do: our fault, and the verdict stays."""
    alone = "SET sql_log_bin = 0"
    source.sql(
        alone, "CREATE OR REPLACE TABLE app.w (id INT) ENGINE=InnoDB", "CREATE OR REPLACE SEQUENCE app.s",
        f"GRANT SELECT, INSERT ON app.* TO '{USER}'@'%'",
    )  # fmt: skip
    outcome = await ask(source, secret, query="SELECT NEXTVAL(app.s)")
    assert outcome.reason.startswith("could not probe: the query writes, and a probe only reads (error 1792")


async def test_slow_query(source: MariaDb, secret: str) -> None:
    """H4: a query that takes too long ends with the probe, and the server ends it as well."""
    outcome = await ask(source, secret, query="SELECT SLEEP(60)", timeout=0.5)
    assert not outcome.ok
    running = "SELECT COUNT(*) n FROM information_schema.PROCESSLIST WHERE info LIKE 'SELECT SLEEP%'"
    until(lambda: source.sql(running)[0]["n"] == 0, 5, "the server to end the query")


async def test_two_sources(fresh: MariaDb, secret: str) -> None:
    """H8: of several sources each counts: one out of reach sends to reserve, one stopped fails, named."""
    port = fresh.port + 1 if fresh.port < 60000 else fresh.port - 1
    fresh.sql(
        f"CHANGE MASTER 'second' TO MASTER_HOST='{HOST}', MASTER_PORT={port}, MASTER_USER='x', MASTER_CONNECT_RETRY=60",
        "START SLAVE 'second'",
    )
    until(lambda: (fresh.sql("SHOW ALL SLAVES STATUS")[-1]["Slave_IO_Running"]) == "Connecting", 20, "connecting")
    outcome = await ask(fresh, secret, "replica")
    assert (outcome.ok, outcome.reserve) == (True, True)
    assert 'the IO thread of "second" is "connecting"' in outcome.reason
    fresh.sql("STOP SLAVE 'second'")
    outcome = await ask(fresh, secret, "replica")
    assert not outcome.ok
    assert outcome.reason.startswith('replication stopped: the IO thread of "second" does not run')


async def test_source_that_died(source: MariaDb, fresh: MariaDb, secret: str) -> None:
    """H8: when the source dies its replica goes to reserve, so that reads go on, and comes back with it."""
    source.stop()
    try:
        fresh.until("Slave_IO_Running", "Connecting")
        outcome = await ask(fresh, secret, "replica-first")
        assert (outcome.ok, outcome.reserve) == (True, True), outcome.reason
        assert outcome.reason.startswith('replica; replication is cut off: the IO thread is "connecting"')
        assert (await ask(source, secret, "writer")).reason == "connection refused"
    finally:
        source.start()
    fresh.until("Slave_IO_Running", "Yes")
    assert not (await ask(fresh, secret, "replica")).reserve


async def test_stopped_server(source: MariaDb, secret: str) -> None:
    """H4: a server that hangs (SIGSTOP) ends the probe at its timeout: the kernel accepts, and no greeting comes."""
    source.proc.stop()
    try:
        outcome = await ask(source, secret, timeout=0.3)
    finally:
        source.proc.cont()
    assert (outcome.ok, outcome.reason) == (False, "no greeting within 0.3 s")


async def test_many_at_once(source: MariaDb, replica: MariaDb, secret: str, leftovers) -> None:
    """H4, H5: runs at the same time neither mix nor leave anything open."""
    leftovers.mark()
    found = await asyncio.gather(*(ask(one, secret, "writer") for one in (source, replica) * 4))
    assert [outcome.ok for outcome in found] == [True, False] * 4
    await leftovers.check()


async def test_galera(provider: None, base: Path, secret: str) -> None:
    """H8: a Galera cluster of two: Synced passes, a Donor with donor-ok, one that rejects queries or lost the majority not."""
    first = Galera(base / "galera1", 1)
    first.start()
    second: Galera | None = None
    try:
        first.shut_down()
        second = Galera(base / "galera2", 2, first)
        first.start()
        second.start()
        until(lambda: second.state()["wsrep_local_state"] == "4", 20, "the second node to be synced")
        assert (await ask(first, secret, "galera")).reason.startswith('Galera node, "Synced", answered in ')
        assert (await ask(second, secret, "galera")).ok
        second.sql("SET GLOBAL wsrep_desync = ON")
        until(lambda: second.state()["wsrep_local_state"] == "2", 20, "the donor")
        donor = await ask(second, secret, "galera")
        assert not donor.ok
        assert donor.reason.startswith('"Donor/Desynced" (wsrep_local_state 2): serves another node')
        assert (await ask(second, secret, "galera", donor_ok=True)).ok
        second.sql("SET GLOBAL wsrep_desync = OFF", "SET GLOBAL wsrep_reject_queries = ALL")
        until(lambda: second.state()["wsrep_local_state"] == "4", 20, "the second node to be synced")
        rejecting = await ask(second, secret, "galera")
        assert rejecting.reason == "rejects queries (wsrep_reject_queries is on)"
        second.stop()
        until(lambda: first.state()["wsrep_cluster_status"] != "Primary", 20, "the split")
        alone = await ask(first, secret, "galera")
        assert alone.reason.startswith('cluster is "non-Primary", not Primary: cut off from the majority')
    finally:
        first.stop()
        if second:
            second.stop()
