"""The ping probe: one ICMP echo, for gateways (RFC 792, RFC 4443).

The probe uses a connected ICMP datagram socket if net.ipv4.ping_group_range allows this process one.  Otherwise it uses a
raw socket that a privileged process has opened and passed on.  Errors from routers or from this host's own stack fail the
probe at once, with a text (H3).
"""

import contextlib
import secrets
from collections.abc import Iterator

from health import icmp
from health.probes.base import Attempt, Failed, Finding, OurFault, Probe, in_words
from health.spec import PingProbe

_PACKET = 2048  # bytes to read of a reply at most


class PingCheck(Probe[PingProbe]):
    """Sends one echo request a run: a lost one is a failure, and `fall` failures make a verdict."""

    async def check(self, attempt: Attempt) -> Finding:
        """Pass if the reply repeats our request."""
        echo = icmp.Echo(secrets.randbits(16), secrets.randbits(16), secrets.token_bytes(icmp.PAYLOAD))
        attempt.sent(f"ICMP echo request to {attempt.address}")
        attempt.missing = "no echo reply"
        version = 6 if ":" in attempt.address else 4
        opened = attempt.connect_icmp()
        if opened is not None:
            await attempt.send(opened, icmp.request(version, echo))
            while True:
                heard = icmp.read(version, await attempt.receive(opened, _PACKET))
                # The kernel sets the identifier, and gives this socket only the replies to it.
                if heard and (heard.echo.sequence, heard.echo.payload) == (echo.sequence, echo.payload):
                    break
        else:
            with self._raw(version) as echoes:
                try:
                    heard = await echoes.ask(attempt.name(), echo)
                except OSError as error:
                    raise in_words(error) from None
            if heard.error:
                raise Failed(heard.error)
        took = attempt.took
        attempt.got(f"echo reply, {took}")
        return Finding(f"answered in {took}")

    @contextlib.contextmanager
    def _raw(self, version: int) -> Iterator[icmp.Echoes]:
        """Lend the raw socket that was passed on; for root by hand, open one."""
        if self.echoes is not None and self.echoes.can(version):
            yield self.echoes
            return
        own = icmp.Echoes()
        try:
            own.adopt(icmp.open_raw(version))
        except OSError:
            raise OurFault("this process may not ping: net.ipv4.ping_group_range excludes its group") from None
        try:
            yield own
        finally:
            own.close()
