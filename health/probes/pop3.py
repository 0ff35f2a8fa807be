"""The pop3 probe: greeting, STLS if configured, login if configured, QUIT (RFC 1939, RFC 2595; H10).

The codes of RFC 2449, section 8, and RFC 3206 distinguish a refused login from a server that cannot check it:

| code | means |
| --- | --- |
| [SYS/TEMP], [SYS/PERM] | a fault of the server: dead |
| [LOGIN-DELAY] | the probe logs in too often for this mailbox: ours |
| [IN-USE] | the login succeeded, but another session has the mailbox, perhaps the other balancer's probe: a pass |
| [AUTH], others and none | the server refused the login |
"""

from health.probes.base import Attempt, Failed, Finding, OurFault, Probe
from health.probes.dialogue import MASK, Dialogue, one_line
from health.spec import Pop3Probe


class Pop3Check(Probe[Pop3Probe]):
    """Waits for the greeting, logs in and logs out."""

    async def check(self, attempt: Attempt) -> Finding:
        """Pass if the server greets with +OK and, if `user` is set, accepts the login."""
        spec = self.spec
        password = one_line(self.secret(), "the password") if spec.user else ""
        talk = Dialogue(attempt, await attempt.connect(spec), password)
        did = "greeted"
        try:
            await _expect(talk, "the greeting")
            if spec.tls == "starttls":
                await talk.say("STLS")
                await _expect(talk, "the answer to STLS")
                await talk.start_tls(spec)
                did = "answered"
            if spec.user:
                did = await _log_in(talk, one_line(spec.user, "user"), password)
            elif spec.tls == "starttls":
                await talk.say("CAPA")
                await _skip_list(talk, "the answer to CAPA")
        except (_Refused, OurFault):
            talk.leave("QUIT")
            raise
        await talk.say("QUIT")
        took = attempt.took
        await _expect(talk, "the answer to QUIT")
        talk.close()
        return Finding(f"{did}{' over TLS' if spec.tls != 'off' else ''} in {took}")


class _Refused(Failed):
    """The server speaks POP3 and refuses a command."""

    def __init__(self, reason: str, line: bytes, *, credentials_rejected: bool = False) -> None:
        super().__init__(reason, credentials_rejected=credentials_rejected)
        self.code = line[len("-ERR ") :].lstrip().upper()


async def _log_in(talk: Dialogue, user: str, password: str) -> str:
    try:
        await talk.say(f"USER {user}")
        await _expect(talk, "the answer to USER")
        await talk.say(f"PASS {password}", f"PASS {MASK}")
        await _expect(talk, "the answer to PASS")
    except _Refused as refused:
        if refused.code.startswith(b"[IN-USE]"):
            return "logged in (mailbox in use)"
        if refused.code.startswith(b"[SYS/"):
            raise
        if refused.code.startswith(b"[LOGIN-DELAY]"):
            raise OurFault(f"{refused}: use a longer interval") from None
        raise _Refused(f"login refused: {refused}", b"", credentials_rejected=True) from None
    return "logged in"


async def _skip_list(talk: Dialogue, what: str) -> None:
    """Read a multi-line answer, or a refusal: either proves that the server answers (RFC 1939, section 3)."""
    if (await talk.hear(what)).startswith(b"+OK"):
        while await talk.hear(what) != b".":
            pass


async def _expect(talk: Dialogue, what: str) -> None:
    line = await talk.hear(what)
    if line.startswith(b"-ERR"):
        raise _Refused(f"{what} was {talk.show(line)}", line)
    if not line.startswith(b"+OK"):
        raise Failed(f"not POP3: {what} was {talk.show(line)}")
