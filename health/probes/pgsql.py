"""The pgsql probe: log in to PostgreSQL, check the server's role and lag, and send a query if one is configured (H8).

| role | passes | is kept in reserve |
| --- | --- | --- |
| any | a server that answers a query | a standby whose lag is over max-lag |
| primary | a server that is not in recovery | |
| standby | a server in recovery | one whose lag is over max-lag, or that is cut off from its primary |

Each run uses a separate connection, which ends with Terminate.  `query` runs in a read-only transaction.
"""

import time
from typing import Final

from health.probes import firstvalue, pgsqlrole
from health.probes.base import Attempt, Failed, Finding, Full, Meaning, OurFault, Probe, blamed, excerpt
from health.probes.pgsqlsession import ServerError, Session
from health.spec import PgsqlProbe
from health.units import format_duration

_MASK: Final = "****"
_NO_ROOM: Final = "53300"
# The meaning and text of a server's errors (PostgreSQL's documentation, appendix A, "PostgreSQL Error Codes").
_ERRORS: Final[dict[str, tuple[Meaning, str]]] = {
    "28P01": ("login", "wrong name or password"),
    "28000": ("login", "the account may not log in from this host in this way"),
    "3D000": ("login", "no such database"),
    "42501": ("login", "the account may not do this"),
    _NO_ROOM: ("full", "too many connections"),
    "53200": ("full", "the server is out of memory"),
    "25006": ("ours", "the query writes, and a probe only reads"),
    "57P01": ("dead", "the server is shutting down"),
    "57P02": ("dead", "the server has crashed"),
    "57P03": ("dead", "the server takes no connections now"),
    "57014": ("dead", "the server has cancelled the query"),
}


class PgsqlCheck(Probe[PgsqlProbe]):
    """Runs one session within one deadline.  Remembers from run to run when a standby was last current."""

    def __init__(self, spec: PgsqlProbe) -> None:
        """Prepare; nothing is known of a lag yet."""
        super().__init__(spec)
        self._behind = pgsqlrole.Behind()

    async def check(self, attempt: Attempt) -> Finding:
        """Pass if the server accepts the login and has the wanted role."""
        password = self.secret()
        session = Session(attempt, await attempt.connect(self.spec), self.spec, password)
        what = "login"
        try:
            await session.login()
            what = "query"
            words, reserve, lag = self._part(pgsqlrole.state_of(await session.rows(pgsqlrole.STATE)))
            if self.spec.query:
                words = f"{words}, {await self._asked(session)}"
        except ServerError as error:
            session.quit()
            raise self._refused(attempt, error, password, what) from None
        except (Failed, OurFault):
            session.quit()
            raise
        took = attempt.took
        session.quit()
        return Finding(f"{words}; {reserve}" if reserve else f"{words}, answered in {took}", bool(reserve), lag=lag)

    def _part(self, state: pgsqlrole.State) -> tuple[str, str, float | None]:
        """Return the role as text, why the server is fit for reserve only ("" if it is fully fit), and its lag."""
        role, most = self.spec.role, self.spec.max_lag
        if not state.recovers:
            if role == "standby":
                raise Failed("is not a standby: it is not in recovery", standby=True)
            return "primary", "", None
        if role == "primary":
            raise Failed("is not a primary: it is in recovery", standby=True)
        lag = self._behind.lag(state, time.monotonic())
        words = "standby" if lag is None else f"standby {lag:.3g} s behind"
        if most is not None and lag is None:
            return words, "it does not tell its lag", None
        if most is not None and lag is not None and lag > most:
            return words, f"lag of {lag:.3g} s is over max-lag ({format_duration(most)})", lag
        if role == "standby" and not state.connected:
            return words, "replication is cut off: it has no connection to its primary", lag
        return words, "", lag

    async def _asked(self, session: Session) -> str:
        """Return what the configured query returned, as text; raises `Failed` if it is not the wanted answer."""
        await session.read_only()
        rows = await session.rows(self.spec.query)
        return firstvalue.judge(len(rows), rows[0][0] if rows and rows[0] else None, self.spec.expect)

    def _refused(self, attempt: Attempt, error: ServerError, password: str, what: str) -> Failed | OurFault | Full:
        """Return the exception for a server's error, without the password even if the server repeats it."""
        text = error.text.replace(password, _MASK) if password else error.text
        shown = excerpt(text.encode("utf-8", "backslashreplace"))
        code = excerpt(error.code.encode("utf-8", "backslashreplace"))[1:-1]
        attempt.got(f"error {code}: {shown}")
        meaning, known = _ERRORS.get(error.code, ("dead", ""))
        if error.code == _NO_ROOM and " for role " in error.text:
            return OurFault(f"too many connections of this account ({shown})")
        if meaning == "login":
            return blamed(meaning, f"{what} refused: {known} ({code}: {shown})")
        if known:
            return blamed(meaning, f"{known} ({code}: {shown})")
        return Failed(f"{what} refused: error {code}: {shown}")
