"""The imap probe: greeting, STARTTLS if configured, login if configured, LOGOUT (RFC 9051, RFC 3501; H10).

The codes of RFC 5530 distinguish a refused login from a server that cannot check it.  The probe does not send the password
if the server announces LOGINDISABLED.  The probe implements the protocol itself: aioimaplib 2.0 has no STARTTLS and does
not accept a socket, which a PROXY header needs.
"""

import re
from typing import Final

from health.probes.base import Attempt, Failed, Finding, Full, Meaning, OurFault, Probe
from health.probes.dialogue import MASK, Dialogue
from health.spec import ImapProbe

# The meaning of the code after a failed LOGIN (RFC 5530, section 3); any other code, or none, is a refused login.
_MEANINGS: Final[dict[bytes, Meaning]] = {
    b"[UNAVAILABLE]": "dead",
    b"[SERVERBUG]": "dead",
    b"[CORRUPTION]": "dead",
    b"[INUSE]": "ours",
    b"[LIMIT]": "ours",
    b"[OVERQUOTA]": "ours",
    b"[PRIVACYREQUIRED]": "ours",
}
_NO_ROOM: Final = b"[LIMIT]"  # in the greeting: the server has no room for any client
_QUOTABLE: Final = re.compile(r"[\x20-\x7e]*")
_PREAUTH: Final = "PREAUTH"


class ImapCheck(Probe[ImapProbe]):
    """Waits for the greeting, logs in and logs out."""

    async def check(self, attempt: Attempt) -> Finding:
        """Pass if the server greets and, if `user` is set, accepts the login."""
        spec = self.spec
        password = self.secret() if spec.user else ""
        talk = _Imap(Dialogue(attempt, await attempt.connect(spec), _quoted(password)[1:-1], password))
        did = "greeted"
        try:
            greeted = await talk.greeting()
            if spec.tls == "starttls":
                await talk.command("STARTTLS")  # after PREAUTH the server has to refuse (RFC 9051, section 6.2.1)
                await talk.dialogue.start_tls(spec)
                talk.capabilities = None  # they may have changed (the same section)
                did = "answered"
            if spec.user and greeted != _PREAUTH:
                await talk.log_in(spec.user, password)
                did = "logged in"
        except (_Refused, OurFault):
            talk.dialogue.leave(f"{talk.next_tag()} LOGOUT")
            raise
        took = attempt.took
        await talk.command("LOGOUT")
        talk.dialogue.close()
        return Finding(f"{did}{' over TLS' if spec.tls != 'off' else ''} in {took}")


class _Refused(Failed):
    """The server speaks IMAP and refuses a command."""

    def __init__(self, reason: str, text: bytes = b"", *, credentials_rejected: bool = False) -> None:
        super().__init__(reason, credentials_rejected=credentials_rejected)
        self.meaning = _MEANINGS.get(text.partition(b" ")[0].upper(), "login")


class _Imap:
    """Sends commands with tags, and reads their answers and the server's untagged lines."""

    def __init__(self, dialogue: Dialogue) -> None:
        self.dialogue = dialogue
        self.capabilities: set[bytes] | None = None
        self._tag = 0

    def next_tag(self) -> str:
        """Return a tag not used before."""
        self._tag += 1
        return f"a{self._tag}"

    async def greeting(self) -> str:
        """Return "OK" or "PREAUTH"."""
        line = await self.dialogue.hear("the greeting")
        word = line[2:].split(b" ", 1)[0].upper() if line.startswith(b"* ") else b""
        if word == b"BYE":
            said = f"the greeting was {self.dialogue.show(line)}"
            raise Full(said) if line[len(b"* BYE ") :].upper().startswith(_NO_ROOM) else Failed(said)
        if word not in {b"OK", b"PREAUTH"}:
            raise Failed(f"not IMAP: the greeting was {self.dialogue.show(line)}")
        self._note(line)
        return word.decode()

    async def log_in(self, user: str, password: str) -> None:
        """Log in by LOGIN; raises `OurFault`, or `Failed`, with `credentials_rejected` if the server refuses the login."""
        if self.capabilities is None:
            await self.command("CAPABILITY")
        if self.capabilities and b"LOGINDISABLED" in self.capabilities:
            raise OurFault("login refused: LOGINDISABLED, the server requires TLS first")
        try:
            await self.command("LOGIN", (user, False), (password, True))
        except _Refused as refused:
            if refused.meaning == "dead":
                raise
            if refused.meaning == "ours":
                raise OurFault(str(refused)) from None
            raise _Refused(f"login refused: {refused}", credentials_rejected=True) from None

    async def command(self, name: str, *arguments: tuple[str, bool]) -> None:
        """Send a command and wait for its result; an argument is a text and whether the text is secret."""
        tag = self.next_tag()
        line = shown = f"{tag} {name}"
        for text, secret in arguments:
            if _QUOTABLE.fullmatch(text):
                line, shown = f"{line} {_quoted(text)}", f"{shown} {MASK if secret else text}"
                continue
            # RFC 9051, section 4.3: a text that cannot be quoted goes in a literal, which the server must ask for.
            await self.dialogue.say(f"{line} {{{len(text.encode())}}}", f"{shown} {{…}}")
            await self._until(tag, name, asked=True)
            line, shown = text, MASK if secret else "…"
        await self.dialogue.say(line, shown)
        await self._until(tag, name)

    async def _until(self, tag: str, name: str, *, asked: bool = False) -> None:
        """Read up to the result of command `tag`, or up to the request for a literal; raises `Failed` if it is not OK."""
        what = f"the answer to {name}"
        while True:
            line = await self.dialogue.hear(what)
            if line.startswith(b"* "):
                self._note(line)
                if line[2:6].upper() == b"BYE " and name != "LOGOUT":
                    raise Failed(f"{what} was {self.dialogue.show(line)}")
                continue
            if asked and line.startswith(b"+"):
                return
            answer, _, text = line.partition(b" ")[2].partition(b" ")
            if not line.startswith(f"{tag} ".encode()) or answer.upper() not in {b"OK", b"NO", b"BAD"} or asked:
                raise Failed(f"not IMAP: {what} was {self.dialogue.show(line)}")
            if answer.upper() != b"OK":
                raise _Refused(f"{what} was {self.dialogue.show(line)}", text)
            return

    def _note(self, line: bytes) -> None:
        """Remember the capabilities, from an untagged line or from a code (RFC 9051, sections 7.1 and 7.2.2)."""
        found = re.search(rb"(?:^\* |\[)CAPABILITY ([^\]]*)", line, re.IGNORECASE)
        if found:
            self.capabilities = set(found[1].upper().split())


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
