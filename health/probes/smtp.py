"""The smtp probe: 220, EHLO, STARTTLS if asked, QUIT (RFC 5321, RFC 3207; H10).

The conversation is our own: aiosmtplib keeps within bounds, but it holds the socket in a transport of its own, tells no
transcript and drops the certificate that it refuses, and the same lines over the same `Attempt` serve POP3 and IMAP.
"""

import re
import socket
from typing import Final

from health.probes.base import Attempt, Failed, Finding, Probe
from health.probes.dialogue import Dialogue, one_line
from health.spec import SmtpProbe

_REPLY: Final = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)  # RFC 5321, section 4.2


class SmtpCheck(Probe[SmtpProbe]):
    """Be greeted, introduce ourselves, leave."""

    async def check(self, attempt: Attempt) -> Finding:
        """Pass when the server greets with 220 and takes our EHLO."""
        spec = self.spec
        helo = one_line(spec.helo or socket.gethostname(), "helo")
        talk = Dialogue(attempt, await attempt.connect(spec))
        try:
            await _expect(talk, 220, "the greeting")
            offered = await _introduce(talk, helo)
            if spec.tls == "starttls":
                await _start_tls(talk, spec, offered)
                await _introduce(talk, helo)  # RFC 3207, section 4.2: what was said before is forgotten
        except _Refused:
            talk.leave("QUIT")
            raise
        await talk.say("QUIT")
        took = attempt.took
        await _expect(talk, 221, "the answer to QUIT")
        talk.close()
        return Finding(f"answered EHLO{' over TLS' if spec.tls != 'off' else ''} in {took}")


class _Refused(Failed):
    """A server that speaks SMTP, but not the answer that we need."""


async def _introduce(talk: Dialogue, helo: str) -> set[bytes]:
    """Say EHLO and return the keywords of the extensions that are offered, in capitals."""
    await talk.say(f"EHLO {helo}")
    lines = await _expect(talk, 250, "the answer to EHLO")
    return {line.split(b" ", 1)[0].upper() for line in lines[1:]}


async def _start_tls(talk: Dialogue, spec: SmtpProbe, offered: set[bytes]) -> None:
    if b"STARTTLS" not in offered:
        raise _Refused("does not offer STARTTLS")
    await talk.say("STARTTLS")
    await _expect(talk, 220, "the answer to STARTTLS")
    await talk.start_tls(spec)


async def _expect(talk: Dialogue, wanted: int, what: str) -> list[bytes]:
    """Return the texts of one reply's lines; raises `Failed` unless its code is `wanted`."""
    texts = []
    while True:
        line = await talk.hear(what)
        reply = _REPLY.fullmatch(line)
        if not reply:
            raise Failed(f"not SMTP: {what} was {talk.show(line)}")
        texts.append(reply[3] or b"")
        if reply[2] != b"-":
            break
    if int(reply[1]) != wanted:
        raise _Refused(f"{what} was {talk.show(line)}, not {wanted}")
    return texts
