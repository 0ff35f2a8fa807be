"""The redis probe: log in if an account is configured, PING, and check the server's role and lag (H8).

| role | passes | is kept in reserve |
| --- | --- | --- |
| any | a server that answers PING | a replica whose lag is over max-lag |
| primary | a primary | |
| standby | a replica | one whose lag is over max-lag, or that has no link to its primary |

Redis says master and slave for what is primary and standby here.  Each run uses a separate connection.
"""

from typing import Final

from health.probes import redisrole
from health.probes.base import Attempt, Failed, Finding, Full, Meaning, OurFault, Probe, blamed, excerpt
from health.probes.redissession import ServerError, Session
from health.spec import RedisProbe
from health.units import format_duration

_DEFAULT: Final = "default"  # the user of a client that names none (Redis, "ACL")
# The meaning and text of the first words of a server's errors (Redis, "RESP protocol description", and src/server.c).
_ERRORS: Final[dict[str, tuple[Meaning, str]]] = {
    "WRONGPASS": ("login", "wrong name or password"),
    "NOPERM": ("login", "the account may not do this"),
    "LOADING": ("dead", "the server loads its data"),
    "MASTERDOWN": ("dead", "the server has lost its primary and serves no stale data"),
    "BUSY": ("dead", "a script keeps the server busy"),
    "MISCONF": ("dead", "the server cannot save its data and refuses to write"),
    "DENIED": ("dead", "the server is in protected mode"),
}
_NO_LOGIN: Final = "NOAUTH"
_OLD_WRONG: Final = "ERR invalid password"  # before Redis 6
_FULL: Final = "ERR max number of clients"
_NOT_LOCKED: Final = "ERR AUTH <password> called without any password"


class RedisCheck(Probe[RedisProbe]):
    """Runs one session within one deadline."""

    async def check(self, attempt: Attempt) -> Finding:
        """Pass if the server answers PING and has the wanted role."""
        password = self.secret()
        session = Session(attempt, await attempt.connect(self.spec), password)
        try:
            await self._login(session, password)
            words, reserve, lag = await self._asked(session)
        except ServerError as error:
            session.leave()
            raise _refused(session, error) from None
        except (Failed, OurFault):
            session.leave()
            raise
        took = attempt.took
        session.leave()
        return Finding(f"{words}; {reserve}" if reserve else f"{words}, in {took}", bool(reserve), lag=lag)

    async def _login(self, session: Session, password: str) -> None:
        user = self.spec.user
        if user is None:
            return
        names = () if user == _DEFAULT else (user,)  # Redis before version 6 has only this user
        await session.call(
            "AUTH", *names, password, shown=f"AUTH {excerpt(user.encode()) if names else ''} ****".replace("  ", " ")
        )

    async def _asked(self, session: Session) -> tuple[str, str, float | None]:
        """Return the role as text, why the server is fit for reserve only ("" if it is fully fit), and its lag."""
        if await session.call("PING") != "PONG":
            raise Failed("answered PING with something else")
        if self.spec.role == "any" and self.spec.max_lag is None:
            return "answered PING", "", None
        return self._part(redisrole.state_of(await session.call(*redisrole.QUESTION)))

    def _part(self, state: redisrole.State) -> tuple[str, str, float | None]:
        """Return the role as text, why the server is fit for reserve only ("" if it is fully fit), and its lag."""
        role, most = self.spec.role, self.spec.max_lag
        if role not in {"any", state.role}:
            is_now = "master" if state.role == "primary" else "replica"
            raise Failed(f"is not a {role}: it is a {is_now}", standby=True)
        if state.role == "primary":
            return "primary", "", None
        words = "standby" if state.lag is None else f"standby, heard of its primary {state.lag:g} s ago"
        if most is not None and state.lag is not None and state.lag > most:
            return words, f"lag of {state.lag:g} s is over max-lag ({format_duration(most)})", state.lag
        if not state.linked and (role == "standby" or state.lag is None):
            return words, f"replication is cut off: {state.why}", state.lag
        return words, "", state.lag


def _refused(session: Session, error: ServerError) -> Failed | OurFault | Full:
    """Return the exception for a server's error, without the password even if the server repeats it."""
    text, shown = str(error), session.shown(str(error))
    if text.startswith(_FULL):
        return Full(f"too many connections ({shown})")
    if error.code == _NO_LOGIN:
        return OurFault("the server wants a login, and the probe has no password-file")
    if text.startswith(_NOT_LOCKED):
        return OurFault(f"the server has no password for the default user: leave password-file out ({shown})")
    meaning, known = _ERRORS.get("WRONGPASS" if text.startswith(_OLD_WRONG) else error.code, ("dead", ""))
    if meaning == "login":
        return blamed(meaning, f"login refused: {known} ({shown})")
    return Failed(f"{known} ({shown})" if known else f"answered with an error: {shown}")
