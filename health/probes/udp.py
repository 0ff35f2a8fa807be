"""The udp probe: send a datagram, wait for an answer.

Without `expect` any datagram from the backend is an answer, even an empty one.  With `expect` the expected bytes may appear
anywhere in one datagram.  The probe ignores other datagrams until the deadline, because anybody can send one, and mentions
them in the reason.  If ICMP reports a closed port, the probe fails at once (H3).
"""

from health.probes.base import Attempt, Finding, Probe, excerpt
from health.probes.words import counted
from health.spec import UdpProbe

_SIZE = 65535  # bytes of the largest datagram
_TOLD = 3  # wrong answers that a transcript shows at most


class UdpCheck(Probe[UdpProbe]):
    """Sends one datagram and waits for one."""

    async def check(self, attempt: Attempt) -> Finding:
        """Pass if an answer arrives that contains the expected bytes, if there are any."""
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
