"""A line-based conversation, as in SMTP, POP3 and IMAP: the transcript shows each line, with secrets masked.

The limits are those of the attempt (deadline, 64 KiB) and `MOST_LINES`, because a line may be as short as a line break.
A line ends with LF, and a CR before it is removed.  RFC 5321, section 2.3.8, demands the CR, but the probe does not judge
that.
"""

import socket
from typing import Final

from health.probes.base import EXCERPT, Attempt, Failed, OurFault, excerpt
from health.spec import ProbeBase

MOST_LINES: Final = 1000  # lines that one run reads at most
MASK: Final = "****"
_MASK: Final = MASK.encode()
_SHOWN = 30  # lines of a server that a transcript shows at most
_CHUNK = 4096  # bytes a read


class Dialogue:
    """Sends and receives lines on one connection; each text of `secrets` shows as "****" wherever it appears."""

    def __init__(self, attempt: Attempt, opened: socket.SocketType, *secrets: str) -> None:
        self._attempt = attempt
        self._opened = opened
        self._secrets = [secret.encode() for secret in secrets if secret]
        self._buffer = bytearray()
        self._searched = 0  # leading bytes of the buffer without a line break
        self._lines = 0

    async def say(self, line: str, shown: str | None = None) -> None:
        """Send one line; the transcript shows `shown` instead if it is given."""
        self._attempt.missing = "could not send: the server does not read"
        self._attempt.sent(line if shown is None else shown)
        await self._attempt.send(self._opened, f"{line}\r\n".encode())

    async def hear(self, what: str) -> bytes:
        """Return the next line without its end; raises `Failed`, naming `what` is expected: "the greeting"."""
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
        """Continue in TLS; clear text after the server's consent could come from anybody, so it fails (RFC 3207, 6)."""
        if self._buffer:
            raise Failed(f"sent clear text after it had agreed to TLS: {self.show(self._buffer)}")
        await self._attempt.start_tls(self._opened, spec)

    def leave(self, line: str) -> None:
        """Send the closing command to a failed server without waiting, so that its log shows no aborted connection."""
        self._attempt.sent(line)
        self._attempt.send_at_once(self._opened, f"{line}\r\n".encode())
        self._attempt.hang_up(self._opened)

    def close(self) -> None:
        """Hang up."""
        self._attempt.hang_up(self._opened)

    def show(self, data: bytes | bytearray, *, partial: bool = False) -> str:
        """Return a harmless excerpt of the server's text, without our secrets even if the server repeats them.

        The end of a `partial` line may be the beginning of a secret.
        """
        shown = bytes(data[: 2 * EXCERPT + max(map(len, self._secrets), default=0)])
        for secret in self._secrets:
            shown = shown.replace(secret, _MASK)
            begun = next((size for size in range(len(secret) - 1, 0, -1) if shown.endswith(secret[:size])), 0)
            if partial and begun:
                shown = shown[:-begun] + _MASK
        return excerpt(shown)


def one_line(text: str, what: str) -> str:
    """Return `text` if a line can carry it; raises `OurFault`, naming the value as `what`, if not."""
    if any(letter in text for letter in "\r\n\0"):
        raise OurFault(f"{what} holds a line break, which the protocol cannot carry")
    return text
