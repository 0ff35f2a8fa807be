"""A conversation in lines, as SMTP, POP3 and IMAP have it: each line in the transcript, secrets masked, all of it bounded.

The bounds are the attempt's (deadline, 64 KiB) and `MOST_LINES`, as lines may be as short as a line break.  A line ends
with LF; a CR before it is cut off (RFC 5321, section 2.3.8, would have us insist, but servers are theirs to judge).
"""

import socket
from typing import Final

from health.probes.base import EXCERPT, Attempt, Failed, OurFault, excerpt
from health.spec import ProbeBase

MOST_LINES: Final = 1000  # lines that one run reads at most
MASK: Final = "****"
_MASK: Final = MASK.encode()
_SHOWN = 30  # lines of a server that a transcript shows
_CHUNK = 4096  # bytes a read


class Dialogue:
    """Lines said and heard on one connection; what is in `secrets` shows as "****" wherever it turns up."""

    def __init__(self, attempt: Attempt, opened: socket.SocketType, *secrets: str) -> None:
        self._attempt = attempt
        self._opened = opened
        self._secrets = [secret.encode() for secret in secrets if secret]
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer that hold no line break
        self._lines = 0

    async def say(self, line: str, shown: str | None = None) -> None:
        """Send one line; `shown` is what the transcript says instead of it."""
        self._attempt.missing = "could not send: the server does not read"
        self._attempt.sent(line if shown is None else shown)
        await self._attempt.send(self._opened, f"{line}\r\n".encode())

    async def hear(self, what: str) -> bytes:
        """Return the next line without its end; raises `Failed` naming `what` it was to be: "the greeting"."""
        attempt = self._attempt
        attempt.missing = f"{what} did not come"
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            data = await attempt.receive(self._opened, _CHUNK)
            if not data:
                raise Failed(f"closed by the server before {what}{attempt.aside}")
            self._buffer += data
            attempt.aside = f", only {self.show(self._buffer, partial=True)}"
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        self._searched = 0
        attempt.aside = f", only {self.show(self._buffer, partial=True)}" if self._buffer else ""
        self._lines += 1
        if self._lines > MOST_LINES:
            raise Failed(f"sends data without end: {MOST_LINES} lines read")
        if self._lines <= _SHOWN:
            attempt.got(self.show(line))
        return line

    async def start_tls(self, spec: ProbeBase) -> None:
        """Go on in TLS.  What came in clear text after the server's consent could be anybody's, and fails (RFC 3207, 6)."""
        if self._buffer:
            raise Failed(f"sent clear text after it had agreed to TLS: {self.show(self._buffer)}")
        await self._attempt.start_tls(self._opened, spec)

    def leave(self, line: str) -> None:
        """Take leave of a server that failed, without waiting: its log then has a client that left, not one that broke off."""
        self._attempt.sent(line)
        self._attempt.send_at_once(self._opened, f"{line}\r\n".encode())
        self._attempt.hang_up(self._opened)

    def close(self) -> None:
        """Hang up."""
        self._attempt.hang_up(self._opened)

    def show(self, data: bytes | bytearray, *, partial: bool = False) -> str:
        """Return an excerpt of what the server said, harmless, and without our secrets should it repeat them.

        Of a `partial` line the end may be the beginning of a secret.
        """
        shown = bytes(data[: 2 * EXCERPT + max(map(len, self._secrets), default=0)])
        for secret in self._secrets:
            shown = shown.replace(secret, _MASK)
            begun = next((size for size in range(len(secret) - 1, 0, -1) if shown.endswith(secret[:size])), 0)
            if partial and begun:
                shown = shown[:-begun] + _MASK
        return excerpt(shown)


def one_line(text: str, what: str) -> str:
    """Return `text` if a line can carry it; raises `OurFault` naming `what` it is."""
    if any(letter in text for letter in "\r\n\0"):
        raise OurFault(f"{what} holds a line break, which the protocol cannot carry")
    return text
