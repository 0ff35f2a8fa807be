"""The tcp probe: connect, with TLS if configured; then, if configured, send a text and wait for a text.

`expect` may appear anywhere in the first 64 KiB that the server sends.  A probe without `expect` reads nothing.  It closes
with FIN rather than RST, so that it does not fill the servers' logs.
"""

import socket

from health.probes.base import Attempt, Failed, Finding, Probe, excerpt
from health.probes.words import counted
from health.spec import TcpProbe

_CHUNK = 4096  # bytes a read


class TcpCheck(Probe[TcpProbe]):
    """Connects over IPv4 or IPv6, optionally with one exchange."""

    def __init__(self, spec: TcpProbe) -> None:
        """Encode once the bytes that every run sends and expects."""
        super().__init__(spec)
        self._sending, self._expected = spec.send_bytes, spec.expect_bytes
        self._passed = "answered as expected" if self._expected else "connected"
        if spec.tls != "off":
            self._passed += " over TLS"

    async def check(self, attempt: Attempt) -> Finding:
        """Pass if the connection succeeds and, with `expect`, if the expected bytes arrive."""
        sending, expected = self._sending, self._expected
        opened = await attempt.connect(self.spec, mute=not sending)
        if sending:
            attempt.missing = "could not send: the server does not read"
            attempt.sent(f"{counted(len(sending), 'byte')} {excerpt(sending)}")
            await attempt.send(opened, sending)
        if expected:
            await _expect(attempt, opened, expected)
        took = attempt.took
        attempt.hang_up(opened)
        return Finding(f"{self._passed} in {took}")


async def _expect(attempt: Attempt, opened: socket.SocketType, expected: bytes) -> None:
    """Read until `expected` has arrived; raises `Failed`."""
    read = bytearray()
    attempt.missing = f"{excerpt(expected)} did not come"
    while expected not in read[-len(expected) - _CHUNK :]:
        data = await attempt.receive(opened, _CHUNK)
        if not data:
            said = f"after {excerpt(read)}" if read else "without an answer"
            raise Failed(f"closed by the server {said}, before {excerpt(expected)}")
        read += data
        attempt.aside = f", only {excerpt(read)}"
    attempt.got(f"{counted(len(read), 'byte')} {excerpt(read)}")
