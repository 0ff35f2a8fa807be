"""The tcp probe: connect, in TLS too; then, if told, send something and wait for something.

`expect` may stand anywhere in the first 64 KiB that the server sends.  A probe that expects nothing reads nothing, and
closes with FIN rather than RST, so that servers do not fill their logs with it.
"""

import socket

from health.probes.base import Attempt, Failed, Finding, Probe, excerpt
from health.spec import TcpProbe

_CHUNK = 4096  # bytes a read


class TcpCheck(Probe[TcpProbe]):
    """Connect over IPv4 or IPv6, optionally with one exchange."""

    async def check(self, attempt: Attempt) -> Finding:
        """Pass when connected and, with `expect`, when the expected bytes have come."""
        opened = await attempt.connect(self.spec)
        sending, expected = self.spec.send_bytes, self.spec.expect_bytes
        if sending:
            attempt.missing = "could not send: the server reads nothing"
            attempt.sent(f"{len(sending)} bytes {excerpt(sending)}")
            await attempt.send(opened, sending)
        if expected:
            await _expect(attempt, opened, expected)
        took = attempt.took
        attempt.hang_up(opened)
        return Finding(
            f"{'answered as expected' if expected else 'connected'}{' over TLS' if self.spec.tls != 'off' else ''} in {took}"
        )


async def _expect(attempt: Attempt, opened: socket.socket, expected: bytes) -> None:
    """Read until `expected` has come; raises `Failed`."""
    read = bytearray()
    attempt.missing = f"{excerpt(expected)} did not come"
    while expected not in read[-len(expected) - _CHUNK :]:
        data = await attempt.receive(opened, _CHUNK)
        if not data:
            said = f"after {excerpt(read)}" if read else "without a word"
            raise Failed(f"closed by the server {said}, before {excerpt(expected)}")
        read += data
        attempt.aside = f", only {excerpt(read)}"
    attempt.got(f"{len(read)} bytes {excerpt(read)}")
