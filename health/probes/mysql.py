"""The mysql probe: log in, send a query, and check the server's role in its replication (H8).

| role | passes | is kept in reserve |
| --- | --- | --- |
| any | a server that answers a query | |
| writer | a server that is not read-only | |
| replica | a server that is read-only and replicates | a server whose lag is over max-lag, or that has lost its source |
| replica-first | as replica | as replica, and a writer |
| galera | a node in the Primary component that is Synced (or Donor, with donor-ok) and ready | |

The lag is the one that the server reports for its sources, the worst of several, or the result of `lag-query`; both in
seconds.  After a lag over max-lag the server passes again only at recover-lag.  A stopped replication thread fails the
probe.  A thread that runs but cannot reach its source does not: if the source dies, only its replicas are left to read.

If `query` is set, it follows in a read-only transaction: the first value of its first row must be `expect`.

Each run uses a separate connection, which ends with COM_QUIT.
"""

from typing import Final

from health.probes import firstvalue, mysqlrole
from health.probes.base import Attempt, Failed, Finding, Full, Meaning, OurFault, Probe, blamed, excerpt
from health.probes.mysqlrole import Hysteresis, Row
from health.probes.mysqlsession import ServerError, Session
from health.secrets import PUBLIC_KEY
from health.spec import MysqlProbe

_PARSE_ERROR: Final = 1064
_UNKNOWN_VARIABLE: Final = 1193
_MASK: Final = "****"

# The meaning and text of a server's errors (MySQL 8.0 Error Message Reference, "Server Error Messages"; MariaDB 11.8, perror).
# Error 1129 meets every client behind this host's address, so the backend is at fault.  Error 1130 is about accounts.
_ERRORS: Final[dict[int, tuple[Meaning, str]]] = {
    1040: ("full", "too many connections"),
    1041: ("full", "the server is out of memory"),
    1135: ("full", "the server cannot start another thread"),
    1044: ("login", "access denied"),
    1045: ("login", "access denied"),
    1698: ("login", "access denied"),
    1130: ("login", "no account may connect from this host"),
    1275: ("login", "the account's password has the format from before MySQL 4.1"),
    1524: ("login", "the server lacks the account's password plugin"),
    1820: ("login", "the password has expired"),
    1862: ("login", "the password has expired"),
    3118: ("login", "the account is locked"),
    3955: ("login", "the account is locked after too many wrong passwords"),
    4150: ("login", "the account is locked after too many wrong passwords"),
    4151: ("login", "the account is locked"),
    1142: ("login", "the account may not run this query"),
    1143: ("login", "the account may not run this query"),
    1227: ("login", "the account may not run this query"),
    1203: ("ours", "too many connections of this account"),
    1226: ("ours", "the account has reached a resource limit"),
    1251: ("ours", "the server requires a login method that this probe lacks"),
    1792: ("ours", "the query writes, and a probe only reads"),
    3159: ("ours", "the server accepts no connection without TLS"),
    1969: ("dead", "the server has cancelled the query"),
    3024: ("dead", "the server has cancelled the query"),
    1053: ("dead", "the server is shutting down"),
    1129: ("dead", "this host is blocked after too many broken connections (mysqladmin flush-hosts lifts it)"),
    3032: ("dead", "the server is in offline mode"),
}
_NO_RIGHT: Final = (
    "the account may not see the replication: grant it REPLICATION CLIENT, or SLAVE MONITOR on MariaDB from 10.5 on"
)


class MysqlCheck(Probe[MysqlProbe]):
    """Runs one session within one deadline.  Remembers from run to run whether a replica lags."""

    def __init__(self, spec: MysqlProbe) -> None:
        """Prepare; the server's version and lag are not known yet."""
        super().__init__(spec)
        self._hysteresis = Hysteresis(spec.max_lag, spec.recover_lag or 0.0) if spec.max_lag is not None else None
        self._lag: float | None = None  # seconds, of the last run
        self._says_slave = False  # a MySQL older than 8.0.22

    async def check(self, attempt: Attempt) -> Finding:
        """Pass if the server accepts the login and has the wanted role."""
        self._lag = None
        password = self.secret()
        key = self.file(PUBLIC_KEY, self.spec.public_key_file)
        session = Session(attempt, await attempt.connect(self.spec), self.spec, password, key)
        try:
            await session.login()
        except ServerError as error:
            raise self._refused(attempt, error, password, "login") from None
        try:
            words, reserve = await self._part(session)
            if self.spec.query:
                words = f"{words}, {await self._asked(session)}"
        except ServerError as error:
            session.quit()
            raise self._refused(attempt, error, password, "query") from None
        except (Failed, OurFault):
            session.quit()
            raise
        took = attempt.took
        session.quit()
        return Finding(
            f"{words}; {reserve}" if reserve else f"{words}, answered in {took}", reserve=bool(reserve), lag=self._lag
        )

    async def _part(self, session: Session) -> tuple[str, str]:
        """Return the server's role as text, and why it is fit for reserve only, "" if it is fully fit."""
        role = self.spec.role
        if role == "galera":
            rows = [row for statement in mysqlrole.GALERA for row in await session.query(statement)]
            return mysqlrole.galera(mysqlrole.settings(rows), donor_ok=self.spec.donor_ok), ""
        if role == "any":
            await _answers(session)
            return "logged in", ""
        locked = mysqlrole.why_read_only(mysqlrole.settings(await session.query(mysqlrole.READ_ONLY)))
        if role == "writer":
            if locked:
                raise Failed(f"is not a writer: {locked} is on", standby=True)
            return "writer", ""
        if locked:
            return await self._replica(session)
        if role == "replica":
            raise Failed("is not a replica: read_only is off", standby=True)
        return "writer", "kept in reserve behind the replicas"

    async def _replica(self, session: Session) -> tuple[str, str]:
        lag_query = self.spec.lag_query
        rows = await self._status(session)
        if rows or lag_query is None:
            found = mysqlrole.replication(rows)
            lag, cut = found.lag, found.cut
        else:
            lag, cut = None, ""  # Aurora and group replication show no source, so only the query counts
        if lag_query is not None:
            lag = mysqlrole.lag_of(await session.query(lag_query))
        self._lag = lag
        words = "replica" if lag is None else f"replica {lag:g} s behind"
        lags = self._hysteresis.observe(lag) if self._hysteresis and lag is not None else ""
        if not lags and not cut and lag is None and self._hysteresis:
            return words, "it does not tell its lag"
        return words, lags or cut

    async def _asked(self, session: Session) -> str:
        """Return what the configured query returned, as text; raises `Failed` if it is not the wanted answer."""
        seconds = self.spec.timeout
        mariadb = "mariadb" in session.server_version.lower()
        limit = (
            f"max_statement_time = {seconds:g}" if mariadb else f"max_execution_time = {max(1, int(seconds * 1000))}"
        )
        try:
            await session.query(f"SET SESSION {limit}")  # the server would go on with a query whose client is gone
        except ServerError as error:
            if error.code != _UNKNOWN_VARIABLE:  # MySQL before 5.7.8
                raise
        await session.query("START TRANSACTION READ ONLY")
        rows = await session.query(self.spec.query)
        return firstvalue.judge(len(rows), next(iter(rows[0].values()), None) if rows else None, self.spec.expect)

    async def _status(self, session: Session) -> list[Row]:
        """Return one row for each source."""
        if "mariadb" in session.server_version.lower():
            statement = "SHOW ALL SLAVES STATUS"  # works in all versions; without ALL it shows one source only
        else:
            statement = "SHOW SLAVE STATUS" if self._says_slave else "SHOW REPLICA STATUS"
        try:
            return list(await session.query(statement))
        except ServerError as error:
            if _ERRORS.get(error.code, ("dead", ""))[0] == "login":
                raise Failed(_NO_RIGHT, credentials_rejected=True) from None
            if error.code != _PARSE_ERROR or self._says_slave:
                raise
        self._says_slave = True
        return await self._status(session)

    def _refused(self, attempt: Attempt, error: ServerError, password: str, what: str) -> Failed | OurFault | Full:
        """Return the exception for a server's error, without the password even if the server repeats it."""
        text = error.text.replace(password, _MASK) if password else error.text
        attempt.got(f"error {error.code}: {excerpt(text.encode())}")
        meaning, known = _ERRORS.get(error.code, ("dead", ""))
        if meaning == "login":
            return blamed(meaning, f"{what} refused: {known} ({error.code}: {excerpt(text.encode())})")
        if known:
            return blamed(meaning, f"{known} (error {error.code})")
        return Failed(f"{what} refused: error {error.code}: {excerpt(text.encode())}")


async def _answers(session: Session) -> None:
    """Send a query that every server can answer; raises `Failed`."""
    rows = await session.query("SELECT 1")
    if [list(row.values()) for row in rows] != [["1"]]:
        raise Failed("answered SELECT 1 with something else")
