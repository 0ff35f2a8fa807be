"""The tcp probe: connect, in TLS too; then, if told, send something and wait for something.

`expect` may stand anywhere in the first 64 KiB that the server sends.  A probe that expects nothing reads nothing, and
closes with FIN rather than RST, so that servers do not fill their logs with it.
"""

import socket

from health.probes.base import Attempt, Failed, Finding, Probe, excerpt
from health.probes.words import counted
from health.spec import TcpProbe

_CHUNK = 4096  # bytes a read


class TcpCheck(Probe[TcpProbe]):
    """Connect over IPv4 or IPv6, optionally with one exchange."""

    def __init__(self, spec: TcpProbe) -> None:
        """Encode once what every run sends and expects."""
        super().__init__(spec)
        self._sending, self._expected = spec.send_bytes, spec.expect_bytes
        self._passed = "answered as expected" if self._expected else "connected"
        if spec.tls != "off":
            self._passed += " over TLS"

    async def check(self, attempt: Attempt) -> Finding:
        """Pass when connected and, with `expect`, when the expected bytes have come."""
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
    """Read until `expected` has come; raises `Failed`."""
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
