"""Datagrams without sessions and answers through a relay whose system calls fail."""

import time
from collections.abc import Iterator

from proxy.relay.plan import UdpPlan
from tests.proxy.relay import dnsbed
from tests.sanitize.trial import Counters, Trial
from tests.sanitize.udp_trial import LOST

CLIENTS = 8
DATAGRAMS = 16  # of each client
PATIENCE = 0.3  # s for the datagrams of a lot to arrive


class OneWayTrial(Trial):
    """Clients that each send numbered datagrams, two servers, one of which answers although nobody asks."""

    protocol = "one-way"

    def prepare(self) -> None:
        """Add a service with two servers."""
        self.servers = [dnsbed.Server(lambda _: None), dnsbed.Server(lambda data: data)]
        self.address = self.relay.service(
            [one.address for one in self.servers],
            transports=("udp",),
            udp=UdpPlan(idle_timeout=30.0, max_sessions=1000, when_full="drop-new", per_datagram=True),
        )
        self.sent: set[bytes] = set()

    def traffic(self) -> list[str]:
        """Send 128 datagrams of 8 clients."""
        self._send(CLIENTS, DATAGRAMS)
        return []

    def works(self) -> bool:
        """Return True if soon every datagram arrives."""
        deadline = time.monotonic() + 3.0
        while time.monotonic() < deadline:
            if not self._send(2, 5):
                return True
        return False

    def balance(self, before: Counters, after: Counters) -> Iterator[str]:
        """Each datagram is counted, and each one that did not arrive is counted as lost somewhere."""
        datagrams, no_memory = after.since(before, "datagrams"), after.since(before, "no_memory")
        if not len(self.sent) - no_memory <= datagrams <= len(self.sent):
            yield f"{datagrams} datagrams are counted of {len(self.sent)}"
        seen = [data for one in self.servers for _, data, _ in one.seen]
        if strange := set(seen) - self.sent:
            yield f"datagrams that nobody sent: {strange}"
        lost = after.since(before, *LOST) + after.backends_since(before, "send_failed", "port_unreachable")
        if (missing := len(self.sent - set(seen))) > lost:
            yield f"{missing} datagrams have not arrived, {lost} are counted as lost"
        retries = after.since(before, "retries")
        if (again := len(seen) - len(set(seen))) > retries:
            yield f"{again} datagrams arrived twice, {retries} retries are counted"
        if after.backends_since(before, "total") < len(seen):
            yield f"{len(seen)} datagrams arrived, {after.backends_since(before, 'total')} are counted"

    def _send(self, clients: int, datagrams: int) -> int:
        """Send datagrams; return how many did not arrive."""
        lot = set()
        for _ in range(clients):
            with dnsbed.client(self.address) as sock:
                for at in range(datagrams):
                    data = b"%d" % len(self.sent) + bytes(1400 * (at % 4 == 1))
                    self.sent.add(data)
                    lot.add(data)
                    sock.send(data)
        deadline = time.monotonic() + PATIENCE
        while (left := lot.difference(data for one in self.servers for _, data, _ in one.seen)) and (
            time.monotonic() < deadline
        ):
            time.sleep(0.01)
        return len(left)

    def stop(self) -> None:
        """End the servers."""
        for one in self.servers:
            one.close()
