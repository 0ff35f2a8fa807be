"""The udp probe: send a datagram, wait for an answer.

Without `expect` any datagram from the backend is an answer, an empty one too.  With it the expected bytes may stand
anywhere in one datagram; others are passed over until the deadline, as anybody can send such a thing, and the reason
tells of them.  A port that ICMP says is closed fails at once (H3).
"""

from health.probes.base import Attempt, Finding, Probe, excerpt
from health.probes.words import counted
from health.spec import UdpProbe

_SIZE = 65535  # bytes of the largest datagram
_TOLD = 3  # wrong answers that a transcript shows


class UdpCheck(Probe[UdpProbe]):
    """One datagram out, one in."""

    async def check(self, attempt: Attempt) -> Finding:
        """Pass when an answer has come that holds the expected bytes, if there are any."""
        opened = attempt.connect_udp()
        sending, expected = self.spec.send_bytes, self.spec.expect_bytes
        attempt.sent(f"{counted(len(sending), 'byte')} {excerpt(sending)}")
        await attempt.send_datagram(opened, sending)
        attempt.missing = f"no answer with {excerpt(expected)}" if expected else "no answer"
        wrong = 0
        while True:
            data = await attempt.receive(opened, _SIZE)
            if wrong < _TOLD:
                attempt.got(f"{counted(len(data), 'byte')} {excerpt(data)}")
            if expected in data:
                return Finding(f"answered{' as expected' if expected else ''} in {attempt.took}")
            wrong += 1
            attempt.aside = f", only {excerpt(data)}"
