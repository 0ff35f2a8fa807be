"""The ldap probe: bind, and search below `base` if one is given (RFC 4511; H9).

The bind is anonymous without `bind-dn`, and simple with it.  If `filter` is set or `min-entries` is above 1, the search
covers the subtree and asks for `min-entries` entries (at least one).  Otherwise it reads only `base`, which costs a server
next to nothing.  The probe asks for no attributes and reads no schema.  It does not follow a reference to another server:
only the entries of this server count.  With `max-lag` the probe reads the contextCSN of `base`, which is the suffix of an
OpenLDAP database.  The time of the newest change is the value by which the service's backends are compared.

ldap3 builds and reads the messages (see `ldapmessage`).  They use the attempt's socket, so that no thread waits for a
silent server.  Each run uses a separate connection, which ends with an unbind.
"""

import re
import socket
from typing import Final

from health.probes import ldapmessage as wire
from health.probes.base import (
    Attempt,
    Failed,
    Finding,
    Full,
    Meaning,
    NotSupported,
    OurFault,
    Probe,
    blamed,
    excerpt,
)
from health.probes.ldapmessage import Aside, Entry, Malformed, Result
from health.probes.words import counted
from health.spec import LdapProbe

_MESSAGE_LIMIT: Final = 16384  # bytes of a message: no wanted answer is longer, and decoding costs time
_CHUNK: Final = 4096  # bytes a read
_ANYTHING: Final = "(objectClass=*)"
_TLS, _BIND, _SEARCH, _CSN, _UNBIND = range(1, 6)  # the IDs of the messages of each run
_START_TLS, _BIND_ANONYMOUSLY, _FAREWELL = wire.start_tls(_TLS), wire.bind(_BIND), wire.unbind(_UNBIND)
_START_TLS_WORDS: Final = "StartTLS"
_BIND_WORDS: Final = "the bind"
_MASK: Final = b"****"
_TOLD: Final = 3  # entries and references that a transcript shows at most

# The results in words (RFC 4511, appendix A.2); any other result shows its number.
_WORDS: Final = {
    1: "an operations error",
    2: "a protocol error",
    3: "time limit exceeded",
    4: "size limit exceeded",
    7: "authentication method not supported",
    8: "requires stronger authentication: TLS or signing",
    10: "a referral",
    11: "an administrative limit exceeded",
    13: "requires TLS first (confidentiality required)",
    32: "no such entry",
    34: "not a DN",
    48: "does not allow this kind of bind (inappropriate authentication)",
    49: "wrong name or password",
    50: "not allowed (insufficient access rights)",
    51: "busy",
    52: "unavailable",
    53: "unwilling to perform this",
    80: "some other error",
}
# Whose fault a result is (RFC 4511, appendix A.2).  A fault of the bound name is ours if the bind was anonymous.
_MEANINGS: Final[dict[int, Meaning]] = {
    7: "ours",
    8: "ours",
    11: "ours",
    13: "ours",
    34: "ours",
    48: "login",
    49: "login",
    50: "login",
    51: "full",
}
_UNWILLING: Final = 53  # after a bind: not with this method; after a search: not at all
# The reasons of Active Directory for result 49, in hexadecimal after "data" in its text (winerror.h).
_ACCOUNT: Final = {
    b"525": "no such user",
    b"52e": "wrong name or password",
    b"530": "no logon at this hour",
    b"531": "no logon from this host",
    b"532": "the password has expired",
    b"533": "the account is disabled",
    b"701": "the account has expired",
    b"773": "the password must be changed",
    b"775": "the account is locked",
}
_DATA: Final = re.compile(rb"\bdata ([0-9a-f]{3,4})\b")
_NOT_BOUND: Final = b"000004DC"  # ERROR_NOT_AUTHENTICATED: Active Directory allows no search without a bind


class LdapCheck(Probe[LdapProbe]):
    """Runs one session within one deadline."""

    def __init__(self, spec: LdapProbe) -> None:
        """Build the requests once; raises `NotSupported` if `filter` is not a filter."""
        super().__init__(spec)
        self._below = spec.filter != _ANYTHING or spec.min_entries > 1
        self._search = self._csn = b""
        if spec.base is None:
            return
        most = max(1, spec.min_entries)
        csn = ("contextCSN",) if spec.max_lag is not None else ()
        try:
            attributes = () if self._below else csn
            self._search = wire.search(_SEARCH, spec.base, spec.filter, attributes, below=self._below, most=most)
            if csn and self._below:
                self._csn = wire.search(_CSN, spec.base, _ANYTHING, csn, below=False, most=1)
        except ValueError as error:
            raise NotSupported(str(error)) from None

    async def check(self, attempt: Attempt) -> Finding:
        """Pass if the server accepts the bind and has the wanted entries."""
        spec = self.spec
        password = self.secret() if spec.bind_dn else ""
        if spec.bind_dn and not password:
            # RFC 4513, section 5.1.2: the server would treat this as an anonymous bind, which proves nothing.
            raise OurFault(f"password file {spec.password_file} is empty")
        talk = _Conversation(attempt, await attempt.connect(spec), password)
        try:
            if spec.tls == "starttls":
                await talk.start_tls(spec)
            await talk.bind(spec.bind_dn or "", password)
            words = "bound" if spec.bind_dn else "bound anonymously"
            newest = None
            if spec.base is not None:
                entries = await self._searched(talk, spec.base)
                words = f"{words}, {counted(len(entries), 'entry', 'entries')} found"
                if spec.max_lag is not None:
                    newest = await self._newest(talk, spec.base, entries)
        except Failed as failed:
            if isinstance(failed, _Refused) or failed.credentials_rejected:
                talk.leave()
            raise
        except (OurFault, Full):
            talk.leave()
            raise
        took = attempt.took
        talk.leave()
        return Finding(f"{words} in {took}", value=newest)

    async def _searched(self, talk: "_Conversation", base: str) -> list[Entry]:
        spec = self.spec
        what = f"search below {excerpt(base.encode())}" if self._below else f"search for {excerpt(base.encode())}"
        entries, references = await talk.search(
            _SEARCH, self._search, f"{what} {spec.filter}", "the search", spec.min_entries
        )
        if len(entries) < spec.min_entries:
            aside = f", and {counted(references, 'reference')} to other servers" if references else ""
            raise _Refused(f"found {len(entries)} of {counted(spec.min_entries, 'entry', 'entries')} wanted{aside}")
        return entries

    async def _newest(self, talk: "_Conversation", base: str, entries: list[Entry]) -> float:
        """Return the newest change's Unix time."""
        if self._csn:
            entries, _ = await talk.search(
                _CSN, self._csn, f"read the contextCSN of {excerpt(base.encode())}", "the contextCSN", 1
            )
        values = [value for entry in entries for value in entry.attributes.get("contextcsn", ())]
        if not values:
            raise _Refused(
                "no contextCSN at the base: it is not the suffix of a replicated database, or may not be read"
            )
        for value in values[:_TOLD]:
            talk.attempt.got(f"contextCSN {excerpt(value)}")
        try:
            return max(wire.csn_time(value) for value in values)
        except Malformed as error:
            raise _Refused(str(error)) from None


class _Refused(Failed):
    """The server speaks LDAP but does not give the wanted answer."""


class _Conversation:
    """Sends requests and reads answers on one connection; `password` shows as "****" if the server repeats it."""

    def __init__(self, attempt: Attempt, opened: socket.SocketType, password: str) -> None:
        self.attempt = attempt
        self._opened = opened
        self._password = password.encode()
        self._buffer = bytearray()
        self._named = False

    async def start_tls(self, spec: LdapProbe) -> None:
        """Ask for TLS and continue in it; raises `Failed`."""
        await self._say(_START_TLS, _START_TLS_WORDS, "the answer to StartTLS")
        result = await self._result(_TLS, wire.EXTENDED_RESPONSE, _START_TLS_WORDS)
        if result.code != wire.SUCCESS:
            raise self._refusal(result, _START_TLS_WORDS)
        if self._buffer:
            # RFC 4511, section 4.14.2: no data may follow, because it could come from anybody.
            raise Failed(f"sent clear text after it had agreed to TLS: {self._show(self._buffer)}")
        await self.attempt.start_tls(self._opened, spec)

    async def bind(self, name: str, password: str) -> None:
        """Bind; raises `Failed`, `OurFault` or `Full`."""
        self._named = name != ""
        shown = f"bind as {excerpt(name.encode())} with a password ****" if name else "bind anonymously"
        request = wire.bind(_BIND, name, password.encode()) if name else _BIND_ANONYMOUSLY
        await self._say(request, shown, "the answer to the bind")
        result = await self._result(_BIND, wire.BIND_RESPONSE, _BIND_WORDS)
        if result.code != wire.SUCCESS:
            raise self._refusal(result, _BIND_WORDS)

    async def search(self, ident: int, request: bytes, shown: str, what: str, wanted: int) -> tuple[list[Entry], int]:
        """Return the entries that the search found and the number of references to other servers; raises `Failed`."""
        attempt = self.attempt
        await self._say(request, shown, f"the answer to {what}")
        entries: list[Entry] = []
        references = 0
        while True:
            try:
                message = await self._hear(ident)
            except Failed as failed:
                raise (
                    Failed(f"{failed}, with {len(entries)} of {counted(wanted, 'entry', 'entries')}")
                    if attempt.unread < 0
                    else failed
                ) from None
            if isinstance(message, Entry):
                entries.append(message)
                attempt.missing = f"the end of {what} did not come"
                if len(entries) <= _TOLD:
                    attempt.got(f"entry {self._show(message.dn)}")
            elif isinstance(message, Aside):
                references += bool(message.uris)
                if message.uris and references <= _TOLD:
                    attempt.got(f"reference to {self._show(message.uris[0])}, not followed")
            else:
                self._expect(message, wire.SEARCH_DONE)
                break
        enough = message.code == wire.SIZE_LIMIT_EXCEEDED and entries  # our limit: the server has even more entries
        if message.code != wire.SUCCESS and not enough:
            raise self._refusal(message, what)
        attempt.got(f"{counted(len(entries), 'entry', 'entries')}, {attempt.took}")
        return entries, references

    def leave(self) -> None:
        """Unbind and hang up, without waiting."""
        self.attempt.sent("unbind")
        self.attempt.send_at_once(self._opened, _FAREWELL)
        self.attempt.hang_up(self._opened)

    async def _say(self, request: bytes, shown: str, answer: str) -> None:
        self.attempt.sent(shown)
        self.attempt.missing = "could not send: the server does not read"
        await self.attempt.send(self._opened, request)
        self.attempt.missing = f"{answer} did not come"

    async def _result(self, ident: int, kind: int, what: str) -> Result:
        message = await self._hear(ident)
        if not isinstance(message, Result):
            raise Failed(f"answered {what} with an entry")
        self._expect(message, kind)
        self.attempt.got(
            f"result {message.code}{f' {self._show(message.text)}' if message.text else ''}, {self.attempt.took}"
        )
        return message

    async def _hear(self, ident: int) -> Result | Entry | Aside:
        """Return the next message; raises `Failed` unless it answers the request `ident`."""
        while True:
            message = self._parsed()
            if message is not None:
                break
            data = await self.attempt.receive(self._opened, _CHUNK)
            if not data:
                raise Failed(f"closed by the server{f' after {self._show(self._buffer)}' if self._buffer else ''}")
            self._buffer += data
        if message.ident == 0 and isinstance(message, Result):
            raise Failed(f"closed by the server: {self._words(message)}")  # RFC 4511, section 4.4.1
        if message.ident != ident:
            raise Failed(f"answered to message {message.ident}, not to {ident}")
        return message

    def _parsed(self) -> Result | Entry | Aside | None:
        """Return the next complete message, if there is one."""
        try:
            size = wire.size(self._buffer)
        except Malformed as error:
            raise Failed(f"not LDAP: answered {self._show(self._buffer)} ({error})") from None
        if size is None:
            return None
        if size > _MESSAGE_LIMIT:
            raise Failed(f"announced a message of {size} bytes, more than a probe reads")
        self.attempt.aside = f", only {len(self._buffer)} of {size} bytes"
        if len(self._buffer) < size:
            return None
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self.attempt.aside = ""
        try:
            return wire.read(data)
        except Malformed as error:
            raise Failed(f"malformed answer {self._show(data)}: {error}") from None

    def _expect(self, message: Result, kind: int) -> None:
        if message.kind != kind:
            raise Failed(f"answered with a message of another kind (tag {message.kind:#04x}, not {kind:#04x})")

    def _refusal(self, result: Result, what: str) -> Failed | OurFault | Full:
        """Return the exception for a result other than success."""
        if result.code == wire.OPERATIONS_ERROR and result.text.startswith(_NOT_BOUND):
            return OurFault(f"{what} needs a bind: Active Directory allows no anonymous search, so set bind-dn")
        if result.code == wire.REFERRAL:
            target = self._show(result.referrals[0]) if result.referrals else "nobody"
            return _Refused(f"{what} was answered with a referral to {target}, which is not followed")
        words = f"{what} was refused: {self._words(result)}"
        meaning = self._meaning(result.code, what)
        return _Refused(words) if meaning == "dead" else blamed(meaning, words)

    def _meaning(self, code: int, what: str) -> Meaning:
        meaning = _MEANINGS.get(code, "dead")
        if what == _START_TLS_WORDS:
            return "full" if meaning == "full" else "dead"
        if code == _UNWILLING and what == _BIND_WORDS:
            return "ours"
        return "ours" if meaning == "login" and not self._named else meaning

    def _words(self, result: Result) -> str:
        words = _WORDS.get(result.code, "an error")
        if result.code == wire.INVALID_CREDENTIALS and (data := _DATA.search(result.text)):
            words = _ACCOUNT.get(data[1], words)
        return f"{words} (result {result.code}{f': {self._show(result.text)}' if result.text else ''})"

    def _show(self, data: bytes | bytearray) -> str:
        return excerpt(data.replace(self._password, _MASK) if self._password else data)
