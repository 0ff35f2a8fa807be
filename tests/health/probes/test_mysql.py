"""The parts that a MySQL server plays, its errors in words, and the memory of a lag; against a scripted MySQL 8."""

import asyncio
from pathlib import Path

import pytest

from health.probes import attempt_once, make, run_once
from health.probes.mysqlrole import READ_ONLY
from health.spec import MysqlProbe
from health.state import Outcome
from tests.health.databases import PASSWORD
from tests.health.mysqlserver import Mysql8, Rows, error, greeting, packet

STATUS, OLD_STATUS = "SHOW REPLICA STATUS", "SHOW SLAVE STATUS"
LAG_QUERY = "SELECT 9"
Answers = dict[str, Rows | tuple[int, str]]

# As in MySQL's reference manual 8.0, SHOW REPLICA STATUS: the columns that count here.
REPLICA = {
    "Replica_IO_State": "Waiting for source to send event",
    "Source_Host": "192.0.2.1",
    "Replica_IO_Running": "Yes",
    "Replica_SQL_Running": "Yes",
    "Last_IO_Errno": "0",
    "Last_IO_Error": "",
    "Last_SQL_Errno": "0",
    "Last_SQL_Error": "",
    "Seconds_Behind_Source": "0",
    "Channel_Name": "",
}


def variables(**values: str) -> Rows:
    """Return what SHOW GLOBAL VARIABLES says."""
    return [{"Variable_name": name, "Value": value} for name, value in values.items()]


WRITER: Answers = {READ_ONLY: variables(read_only="OFF", super_read_only="OFF")}
READER: Answers = {READ_ONLY: variables(read_only="ON", super_read_only="ON")}


def lagging(seconds: str | None, **more: str) -> Answers:
    """Return what a replica answers that is `seconds` behind."""
    return READER | {STATUS: [REPLICA | {"Seconds_Behind_Source": seconds} | more]}


@pytest.fixture
async def ask(tcp_server, tmp_path: Path):
    """Return a function that runs one probe against a server with these answers; a probe it made before can be given."""
    path = tmp_path / "pw"
    path.write_text(PASSWORD)

    async def run(answers: Answers, role: str = "any", **keys: object) -> tuple[Outcome, list[str], Mysql8]:
        server = Mysql8(PASSWORD, answers=answers)
        _, port = await tcp_server(server.talk)
        spec = MysqlProbe(user="probe", password_file=str(path), role=role, **keys)
        outcome, lines = await run_once(spec, "127.0.0.1", port)
        for _ in range(100):
            if "quit" in server.seen:
                break
            await asyncio.sleep(0.01)
        return outcome, lines, server

    return run


@pytest.mark.parametrize(
    ("answers", "role", "keys", "ok", "reserve", "reason"),
    [
        ({}, "any", {}, True, False, "logged in, answered in "),
        ({"SELECT 1": [{"1": "2"}]}, "any", {}, False, False, "answered SELECT 1 with something else"),
        ({"SELECT 1": (1047, "WSREP")}, "any", {}, False, False, 'query refused: error 1047: "WSREP"'),
        (WRITER, "writer", {}, True, False, "writer, answered in "),
        (READER, "writer", {}, False, False, "is not a writer: super_read_only is on"),
        (WRITER, "replica", {}, False, False, "is not a replica: read_only is off"),
        (WRITER, "replica-first", {}, True, True, "writer; kept in reserve behind the replicas"),
        (lagging("4"), "replica", {}, True, False, "replica 4 s behind, answered in "),
        (lagging("4"), "replica-first", {}, True, False, "replica 4 s behind, answered in "),
        (lagging("4"), "replica", {"max_lag": 4}, True, False, "replica 4 s behind, answered in "),
        (lagging("5"), "replica", {"max_lag": 4}, True, True, "replica 5 s behind; lag of 5 s is over max-lag (4s)"),
        (lagging("5"), "replica-first", {"max_lag": 4}, True, True, "replica 5 s behind; lag of 5 s is over max-lag"),
        (lagging(None), "replica", {}, True, False, "replica, answered in "),
        (lagging(None), "replica", {"max_lag": 4}, True, True, "replica; it does not tell its lag"),
        (
            lagging(None, Replica_IO_Running="Connecting", Last_IO_Errno="2003", Last_IO_Error="error connecting"),
            "replica",
            {"max_lag": 4},
            True,
            True,
            'replica; replication is cut off: the IO thread is "connecting" (error 2003: "error connecting")',
        ),
        (
            lagging(None, Replica_SQL_Running="No", Last_SQL_Errno="1062", Last_SQL_Error="Duplicate entry"),
            "replica",
            {},
            False,
            False,
            'replication stopped: the SQL thread does not run (error 1062: "Duplicate entry")',
        ),
        (READER | {STATUS: []}, "replica", {}, False, False, "is read-only, but replicates from no server"),
        (
            READER | {STATUS: [], LAG_QUERY: [{"9": "9"}]},
            "replica",
            {"max_lag": 8, "lag_query": LAG_QUERY},
            True,
            True,
            "replica 9 s behind; lag of 9 s is over max-lag (8s)",
        ),
        (
            lagging("0") | {LAG_QUERY: [{"9": "9"}]},
            "replica",
            {"max_lag": 10, "lag_query": LAG_QUERY},
            True,
            False,
            "replica 9 s behind, answered in ",
        ),
        (
            lagging("0", Replica_SQL_Running="No") | {LAG_QUERY: [{"9": "9"}]},
            "replica",
            {"lag_query": LAG_QUERY},
            False,
            False,
            "replication stopped: the SQL thread does not run",
        ),
        (lagging("0"), "replica", {"lag_query": LAG_QUERY}, False, False, "query refused: error 1064"),
        (lagging("0"), "galera", {}, False, False, "query refused: error 1064"),
    ],
)
async def test_roles(ask, answers, role: str, keys: dict[str, object], ok: bool, reserve: bool, reason: str) -> None:
    """H8, H13: each role passes, goes to reserve or fails by what the server says of itself, and takes its leave."""
    outcome, lines, server = await ask(answers, role, **keys)
    assert outcome.reason.startswith(reason), lines
    assert (outcome.ok, outcome.reserve, outcome.credentials_rejected) == (ok, reserve, False)
    assert server.seen[-1] == "quit"


async def test_server_that_says_slave(ask) -> None:
    """H8: a MySQL of before 8.0.22 is asked in its own words, once it has said that it does not know the others."""
    row = {"Slave_IO_Running": "Yes", "Slave_SQL_Running": "Yes", "Seconds_Behind_Master": "3"}
    outcome, _, server = await ask(READER | {OLD_STATUS: [row]}, "replica")
    assert outcome.reason.startswith("replica 3 s behind")
    assert server.statements == [READ_ONLY, STATUS, OLD_STATUS]


async def test_statement_is_remembered(tcp_server, tmp_path: Path) -> None:
    """H8: what a server does not know is asked once, not at every run."""
    path = tmp_path / "pw"
    path.write_text(PASSWORD)
    row = {"Slave_IO_Running": "Yes", "Slave_SQL_Running": "Yes", "Seconds_Behind_Master": "3"}
    server = Mysql8(PASSWORD, answers=READER | {OLD_STATUS: [row]})
    _, port = await tcp_server(server.talk)
    probe = make(MysqlProbe(user="probe", password_file=str(path), role="replica"))
    for _ in range(2):
        outcome, _ = await attempt_once(probe, "127.0.0.1", port)
        assert outcome.ok
    assert server.statements == [READ_ONLY, STATUS, OLD_STATUS, READ_ONLY, OLD_STATUS]


@pytest.mark.parametrize("code", [1227, 1142])
async def test_right_that_is_missing(ask, code: int) -> None:
    """H8: an account that may not see the replication is the account's fault, and the reason names the right."""
    outcome, _, _ = await ask(READER | {STATUS: (code, "Access denied; you need SLAVE MONITOR")}, "replica")
    assert not outcome.ok
    assert outcome.credentials_rejected
    assert "grant it REPLICATION CLIENT, or SLAVE MONITOR" in outcome.reason


async def test_lag_comes_back_late(tcp_server, tmp_path: Path) -> None:
    """H8: a probe remembers from run to run that its replica lagged, until it is down to half of max-lag."""
    path = tmp_path / "pw"
    path.write_text(PASSWORD)
    server = Mysql8(PASSWORD)
    _, port = await tcp_server(server.talk)
    probe = make(MysqlProbe(user="probe", password_file=str(path), role="replica", max_lag=30))
    other = make(MysqlProbe(user="probe", password_file=str(path), role="replica", max_lag=30))
    found = []
    for lag in ("20", "31", "20", "16", "15", "20"):
        server.answers = dict(lagging(lag))
        outcome, _ = await attempt_once(probe, "127.0.0.1", port)
        found.append(outcome.reserve)
        assert outcome.ok
    assert found == [False, True, True, True, False, False]
    server.answers = dict(lagging("20"))
    outcome, _ = await attempt_once(other, "127.0.0.1", port)
    assert not outcome.reserve


@pytest.mark.parametrize(
    ("number", "code", "said", "reason", "rejected"),
    [
        (0, 1129, "Host '192.0.2.1' is blocked", "this host is blocked after too many broken connections", False),
        (
            0,
            1130,
            "Host '192.0.2.1' is not allowed",
            "login refused: no account may connect from this host (1130",
            True,
        ),
        (2, 1045, "Access denied for user", 'login refused: access denied (1045: "Access denied for user")', True),
        (2, 1698, "Access denied for user", "login refused: access denied (1698", True),
        (2, 1862, "Your password has expired", "login refused: the password has expired (1862", True),
        (2, 3118, "Account is locked", "login refused: the account is locked (3118", True),
        (2, 4151, "Account is locked", "login refused: the account is locked (4151", True),
        (2, 3955, "Access denied: blocked", "login refused: the account is locked after too many", True),
        (2, 4150, "User is blocked", "login refused: the account is locked after too many wrong passwords (4150", True),
        (
            2,
            1275,
            "old format",
            "login refused: the account's password has the format from before MySQL 4.1 (1275",
            True,
        ),
        (2, 1524, "Plugin 'x' is not loaded", "login refused: the server lacks the account's password plugin", True),
        (2, 1053, "Server shutdown in progress", "the server is shutting down (error 1053)", False),
        (2, 3032, "The server is in offline mode", "the server is in offline mode (error 3032)", False),
        (2, 1835, "Malformed \x1b[2J packet", 'login refused: error 1835: "Malformed \\x1b[2J packet"', False),
    ],
)
async def test_errors_in_words(tcp_server, number: int, code: int, said: str, reason: str, rejected: bool) -> None:
    """H8, H13: a refused login and a server that fails are told apart, and only the first is the account's fault."""
    outcome = await met(tcp_server, number, code, said)
    assert not outcome.ok
    assert outcome.reason.startswith(reason)
    assert outcome.credentials_rejected == rejected


async def met(tcp_server, number: int, code: int, said: str) -> Outcome:
    """Return what a probe finds that meets an error as packet `number`: 0 is the greeting, 2 the answer to the login."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if number:
            writer.write(greeting())
            await reader.read(4096)
            writer.write(error(number, code, said))
        else:
            writer.write(packet(0, b"\xff" + code.to_bytes(2, "little") + said.encode()))
        await reader.read(4096)

    _, port = await tcp_server(talk)
    outcome, _ = await run_once(MysqlProbe(user="probe"), "127.0.0.1", port)
    return outcome


@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [
        (0, 1040, "too many connections (error 1040)"),
        (2, 1041, "the server is out of memory (error 1041)"),
        (0, 1135, "the server cannot start another thread (error 1135)"),
    ],
)
async def test_full(tcp_server, number: int, code: int, reason: str) -> None:
    """H8: a server without room for another connection is fit for reserve, and not dead."""
    outcome = await met(tcp_server, number, code, "no more")
    assert (outcome.ok, outcome.reserve, outcome.full, outcome.reason) == (True, True, True, reason)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1203, "too many connections of this account (error 1203)"),
        (1226, "the account has reached a resource limit (error 1226)"),
        (1251, "the server requires a login method that this probe lacks (error 1251)"),
        (3159, "the server accepts no connection without TLS (error 3159)"),
    ],
)
async def test_our_own_limits(tcp_server, code: int, reason: str) -> None:
    """H8: a limit of the probe's account or abilities does not mean that the server is down: the run does not count."""
    outcome = await met(tcp_server, 2, code, "no more")
    assert (outcome.ok, outcome.credentials_rejected) == (False, False)
    assert outcome.reason == f"could not probe: {reason}"


async def test_password_file_that_is_missing(tmp_path: Path) -> None:
    """H8: without its password file the probe does not run: nothing is known of the server then."""
    outcome, _ = await run_once(MysqlProbe(user="probe", password_file=str(tmp_path / "none")), "127.0.0.1", 9)
    assert outcome.reason == f"could not probe: password file {tmp_path / 'none'} is missing"


async def test_transcript(ask) -> None:
    """A transcript tells each step of a run, without the password."""
    _, lines, _ = await ask(WRITER, "writer")
    told = [line.split(", ")[0] for line in lines[1:]]
    assert told == [
        "<- connected",
        '<- greeting of "8.0.20"',
        '-> login as "probe" with a password ****',
        '<- logged in by "caching_sha2_password"',
        "-> SHOW GLOBAL VARIABLES WHERE Variable_name IN ('read_only'",
        "<- 2 rows",
        "-> quit",
        "-> close",
        "pass: writer",
    ]


async def test_closed_port() -> None:
    """H3: a closed port fails at once."""
    outcome, _ = await run_once(MysqlProbe(user="probe", timeout=5, interval=5), "127.0.0.1", 9)
    assert (outcome.ok, outcome.reason) == (False, "connection refused")
