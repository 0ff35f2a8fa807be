"""The dns probe: one query over UDP, TCP or both, and the conditions that its answer must meet (H7).

A reply passes if it has our ID, our question and a wanted response code.  If `query` is set and only NOERROR is wanted, the
reply must contain a record of the queried type under the queried name or its aliases: a referral (a lame server) and an
empty answer fail.  `expect` demands that the data of one such record equals its text.  `authoritative` demands that AA is
set, or that it is not set.  After a truncated UDP reply the probe asks again over TCP, like a client.

Each run uses a fresh ID from the CSPRNG and a separate socket on a random port.  The socket is connected, so that a closed
port or an unreachable host fails at once (H3).  Over UDP the probe ignores foreign replies until the deadline and mentions
them in the reason, because anybody can send such a datagram.  Over TCP they fail at once, because only the server can.
"""

import base64
import secrets

from dns.rdtypes.ANY.SOA import SOA

from health.probes.base import EXCERPT, Attempt, Failed, Finding, NotSupported, Probe, excerpt
from health.probes.dnsmessage import Malformed, Question, Reply, Wanted, read_reply, stranger
from health.probes.words import counted
from health.spec import DnsProbe
from health.values import RANDOM, RANDOM_LENGTH

_UDP_SIZE = 65535  # bytes of the largest datagram
_TOLD = 3  # records, or ignored datagrams, that a transcript shows at most
_KEPT = 4096  # bytes of the longest reply that the probe remembers
_ID = 2  # bytes of a message's ID


class DnsCheck(Probe[DnsProbe]):
    """Sends one query over each wanted transport within one deadline."""

    _last: tuple[bytes, Reply] | None  # the bytes of a reply without its ID, and its content

    def __init__(self, spec: DnsProbe) -> None:
        """Build the query once: each run only inserts its ID, and a new label if the name asks for one."""
        super().__init__(spec)
        try:
            self._ask()
        except ValueError as error:
            raise NotSupported(str(error)) from None
        self._wanted = Wanted(spec.expect, self._question.rdtype) if spec.expect else None
        self._must_answer = bool(spec.query) and spec.rcode == ("NOERROR",)
        self._udp = spec.transport in {None, "udp", "both"}
        self._tcp = spec.transport in {"tcp", "both"}

    async def check(self, attempt: Attempt) -> Finding:
        """Pass if the answer over every wanted transport meets the conditions."""
        if RANDOM in self.spec.qname:
            self._ask()
        over: list[str] = []
        truncated = False
        rcode = ""
        if self._udp:
            reply = await self._over_udp(attempt)
            truncated = reply.truncated
            if truncated:
                attempt.aside = " (truncated over UDP)"
            else:
                self._judge(reply)
            over.append("UDP")
            rcode = reply.rcode_text
        if self._tcp or truncated:
            try:
                reply = await self._over_tcp(attempt)
                self._judge(reply)
            except Failed as failed:
                raise Failed(f"over TCP{attempt.aside}: {failed}") if self._udp else failed from None
            over.append("TCP")
            rcode = reply.rcode_text
        return Finding(f"answered {rcode} over {' and '.join(over)} in {attempt.took}", value=_serial(reply))

    def _ask(self) -> None:
        """Build the query; raises ValueError if its name is none."""
        name = self.spec.qname
        while RANDOM in name:
            name = name.replace(RANDOM, _label(), 1)
        self._question = Question.parse(name, self.spec.qtype)
        self._query = self._question.query(recurse=self.spec.recurse)
        self._last = None

    async def _over_udp(self, attempt: Attempt) -> Reply:
        opened = attempt.connect_udp()
        ident, query = self._fresh()
        await attempt.send_datagram(opened, query)
        if attempt.recording:
            attempt.sent(f"query {self._question} id {ident:#06x}")
        attempt.missing = "no answer to the query over UDP"
        ignored = 0
        while True:
            data = await attempt.receive(opened, _UDP_SIZE)
            why = self._stranger(data, ident)
            if not why:
                return self._read(attempt, data)
            ignored += 1
            attempt.aside = f" ({counted(ignored, 'reply', 'replies')} ignored, the last {why})"
            if ignored <= _TOLD:
                attempt.got(f"ignored: {counted(len(data), 'byte')} {why}")

    async def _over_tcp(self, attempt: Attempt) -> Reply:
        opened = await attempt.connect(self.spec)  # in TLS: RFC 7858
        ident, query = self._fresh()
        attempt.missing = "could not send the query over TCP"
        await attempt.send(opened, len(query).to_bytes(2, "big") + query)  # RFC 1035, section 4.2.2
        if attempt.recording:
            attempt.sent(f"query {self._question} id {ident:#06x}")
        attempt.missing = "no answer to the query over TCP"
        size = int.from_bytes(await attempt.receive_exactly(opened, 2, "the answer's length"), "big")
        if size > attempt.unread:
            raise Failed(f"announced an answer of {size} bytes, more than a probe reads")
        attempt.missing = f"the answer of {counted(size, 'byte')} did not come whole"
        data = await attempt.receive_exactly(opened, size, "the answer")
        why = self._stranger(data, ident)
        if why:
            raise Failed(f"sent a reply {why}")
        attempt.hang_up(opened)
        return self._read(attempt, data)

    def _fresh(self) -> tuple[int, bytes]:
        ident = secrets.randbits(16)
        return ident, ident.to_bytes(2, "big") + self._query[2:]

    def _stranger(self, data: bytes, ident: int) -> str:
        if self._said(data) is not None and int.from_bytes(data[:_ID], "big") == ident:
            return ""
        try:
            return stranger(data, ident, self._question)
        except Malformed as error:
            raise Failed(f"malformed answer: {error}") from None

    def _said(self, data: bytes) -> Reply | None:
        """Return the last reply if `data` repeats it except for the ID, None if not: parsing takes most of the time."""
        return self._last[1] if self._last is not None and self._last[0] == data[_ID:] else None

    def _read(self, attempt: Attempt, data: bytes) -> Reply:
        reply = self._said(data)
        if reply is None:
            try:
                reply = read_reply(data, self._question)
            except Malformed as error:
                raise Failed(f"malformed answer: {error}") from None
            self._last = (data[_ID:], reply) if len(data) <= _KEPT else None
        if attempt.recording:
            _tell(attempt, reply)
        return reply

    def _judge(self, reply: Reply) -> None:
        """Raise `Failed` unless the reply meets the conditions of the configuration."""
        spec = self.spec
        if reply.rcode_text not in spec.rcode:
            raise Failed(f"answered {reply.rcode_text}, not {' or '.join(spec.rcode)}")
        if reply.truncated:
            raise Failed("answered truncated over TCP")
        if self._must_answer and not reply.answers:
            if reply.referral and not reply.authoritative:
                raise Failed(f"lame: refers to {reply.referral[:EXCERPT]} instead of answering")
            raise Failed(f"answered NOERROR without a record for {self._question}")
        if self._wanted and not any(self._wanted.matches(answer) for answer in reply.answers):
            held = ", ".join(excerpt(answer.to_text().encode()) for answer in reply.answers[:_TOLD])
            raise Failed(f'wrong answer: {held or "no record"}, not "{spec.expect}"')
        if spec.authoritative is not None and reply.authoritative != spec.authoritative:
            wanted, found = (
                ("authoritative", "AA is not set") if spec.authoritative else ("not authoritative", "AA is set")
            )
            raise Failed(f"the answer must be {wanted}, but {found}")


def _label() -> str:
    """Return random letters and digits."""
    return base64.b32encode(secrets.token_bytes(8)).decode().lower()[:RANDOM_LENGTH]


def _tell(attempt: Attempt, reply: Reply) -> None:
    """Note a reply's content in the transcript."""
    marks = ", truncated" * reply.truncated + ", authoritative" * reply.authoritative
    attempt.got(f"{reply.rcode_text}, {counted(len(reply.answers), 'answer')}{marks}, {attempt.took}")
    for answer in reply.answers[:_TOLD]:
        attempt.got(f"  {excerpt(answer.to_text().encode())}")


def _serial(reply: Reply) -> float | None:
    """Return the zone's serial if the answer is an SOA record."""
    return next((answer.serial for answer in reply.answers if isinstance(answer, SOA)), None)
