"""The smtp probe: greeting 220, EHLO, STARTTLS if configured, QUIT (RFC 5321, RFC 3207; H10).

The meaning of a refusal (RFC 5321, sections 3.1, 3.8, 4.2.3 and 4.3.5; RFC 3207, section 4; RFC 3463, sections 3.4 and 3.8):

| reply | means |
| --- | --- |
| 421 to any command | the server has no room, or it is shutting down: full |
| 501, 504, 550 or 553 to EHLO | the server does not accept our `helo`: ours |
| a greeting with enhanced status X.7.Y | the server does not accept this host: ours |
| 454 to STARTTLS, all others | dead |

The probe does not log in, so no reply is about an account.

The probe implements the protocol itself.  aiosmtplib limits what it reads, but it keeps the socket in a transport of its
own, has no transcript and drops a refused certificate.  The same line-based code over `Attempt` also serves POP3 and IMAP.
"""

import re
import socket
from typing import Final

from health.probes.base import Attempt, Failed, Finding, Full, Meaning, OurFault, Probe, blamed
from health.probes.dialogue import Dialogue, one_line
from health.spec import SmtpProbe

_REPLY: Final = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)  # RFC 5321, section 4.2
_POLICY: Final = re.compile(rb"[45]\.7\.[0-9]{1,3}\b")  # RFC 3463, section 3.8
_GREETING: Final = "the greeting"
_TO_EHLO: Final = "the answer to EHLO"
_NO_ROOM: Final = 421
_HELO_REFUSED: Final = frozenset((501, 504, 550, 553))


class SmtpCheck(Probe[SmtpProbe]):
    """Waits for the greeting, sends EHLO and quits."""

    async def check(self, attempt: Attempt) -> Finding:
        """Pass if the server greets with 220 and accepts EHLO."""
        spec = self.spec
        helo = one_line(spec.helo or socket.gethostname(), "helo")
        talk = Dialogue(attempt, await attempt.connect(spec))
        try:
            await _expect(talk, 220, _GREETING)
            offered = await _introduce(talk, helo)
            if spec.tls == "starttls":
                await _start_tls(talk, spec, offered)
                await _introduce(talk, helo)  # RFC 3207, section 4.2: the server forgets the earlier EHLO
        except (_Refused, OurFault, Full):
            talk.leave("QUIT")
            raise
        await talk.say("QUIT")
        took = attempt.took
        await _expect(talk, 221, "the answer to QUIT")
        talk.close()
        return Finding(f"answered EHLO{' over TLS' if spec.tls != 'off' else ''} in {took}")


class _Refused(Failed):
    """The server speaks SMTP but does not give the wanted reply."""


async def _introduce(talk: Dialogue, helo: str) -> set[bytes]:
    """Send EHLO and return the keywords of the extensions that the server offers, in capitals."""
    await talk.say(f"EHLO {helo}")
    lines = await _expect(talk, 250, _TO_EHLO)
    return {line.split(b" ", 1)[0].upper() for line in lines[1:]}


async def _start_tls(talk: Dialogue, spec: SmtpProbe, offered: set[bytes]) -> None:
    if b"STARTTLS" not in offered:
        raise _Refused("does not offer STARTTLS")
    await talk.say("STARTTLS")
    await _expect(talk, 220, "the answer to STARTTLS")
    await talk.start_tls(spec)


async def _expect(talk: Dialogue, wanted: int, what: str) -> list[bytes]:
    """Return the texts of one reply's lines; raises `Failed`, `OurFault` or `Full` unless its code is `wanted`."""
    texts = []
    while True:
        line = await talk.hear(what)
        reply = _REPLY.fullmatch(line)
        if not reply:
            raise Failed(f"not SMTP: {what} was {talk.show(line)}")
        texts.append(reply[3] or b"")
        if reply[2] != b"-":
            break
    code = int(reply[1])
    if code != wanted:
        words = f"{what} was {talk.show(line)}, not {wanted}"
        meaning = _meaning(code, texts[-1], what)
        raise _Refused(words) if meaning == "dead" else blamed(meaning, words)
    return texts


def _meaning(code: int, text: bytes, what: str) -> Meaning:
    if code == _NO_ROOM:
        return "full"
    ours = (what == _GREETING and _POLICY.match(text)) or (what == _TO_EHLO and code in _HELO_REFUSED)
    return "ours" if ours else "dead"
