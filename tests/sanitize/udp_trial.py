"""Datagrams of plain UDP through a relay whose system calls fail."""

import select
import socket
import time
from collections.abc import Iterator

from proxy.relay.plan import UdpPlan
from tests.proxy.relay import dnsbed
from tests.sanitize.trial import Counters, Trial

CLIENTS = 8
ROUNDS = 4  # each client sends so many lots, and waits for their answers
LOT = 4  # datagrams
PATIENCE = 0.15  # s for the answers of a lot
LOST = (
    "no_memory", "no_descriptor", "no_local_port", "no_source_address", "table_full", "refused_no_backend", "evicted",
)  # fmt: skip
"""The service's counters of clients' datagrams that went no further."""


class UdpTrial(Trial):
    """Clients that each send numbered datagrams, two servers that send each one back."""

    protocol = "udp"

    def prepare(self) -> None:
        """Add a service with two servers."""
        self.servers = [dnsbed.Server(lambda data: data) for _ in range(2)]
        self.address = self.relay.service(
            [one.address for one in self.servers],
            transports=("udp",),
            udp=UdpPlan(idle_timeout=30.0, max_sessions=1000, when_full="drop-new"),
        )
        self.sent: list[bytes] = []
        self.received = self.again = 0

    def traffic(self) -> list[str]:
        """Send 128 datagrams of 8 clients."""
        return self._exchange(CLIENTS, ROUNDS)[0]

    def works(self) -> bool:
        """Return True if soon every datagram comes back."""
        deadline = time.monotonic() + 3.0
        while time.monotonic() < deadline:
            wrong, missing = self._exchange(2, 2)
            if wrong:
                return False
            if not missing:
                return True
        return False

    def balance(self, before: Counters, after: Counters) -> Iterator[str]:
        """Each datagram is counted, and each one without an answer is counted as lost somewhere."""
        datagrams = after.since(before, "datagrams")
        no_memory = after.since(before, "no_memory")
        if not len(self.sent) - no_memory <= datagrams <= len(self.sent):
            yield f"{datagrams} datagrams are counted of {len(self.sent)}"
        seen = {data for one in self.servers for _, data, _ in one.seen}
        lost = after.since(before, *LOST) + after.backends_since(before, "send_failed", "port_unreachable")
        if (missing := len(set(self.sent) - seen)) > lost:
            yield f"{missing} datagrams have reached no backend, {lost} are counted as lost"
        came, unsent = after.backends_since(before, "replies"), after.since(before, "unsent_replies")
        replies, retries = after.since(before, "replies"), after.since(before, "retries")
        # The last datagram of a session whose backend refuses goes to another one, which may be one too often.
        if not self.received <= replies <= self.received + retries or came != replies + unsent:
            yield f"{came} datagrams of backends, {replies} passed on, {unsent} not, {self.received} arrived"
        if self.again > retries:
            yield f"{self.again} answers came twice, {retries} retries are counted"
        opened, ended = after.since(before, "sessions_opened"), after.backends_since(before, "total")
        if opened != ended:
            yield f"{opened} sessions were opened, {ended} on backends"

    def settle(self) -> None:
        """End the sessions: their backends are in maintenance for a moment."""
        for admin in ("maint", "ready"):
            for one in self.servers:
                self.relay.verdict(one.address, "up", admin)

    def _exchange(self, clients: int, rounds: int) -> tuple[list[str], int]:
        """Send lots of datagrams; return what was wrong, and how many did not come back."""
        wrong: list[str] = []
        expected: dict[socket.socket, set[bytes]] = {dnsbed.client(self.address): set() for _ in range(clients)}
        missing = 0
        for turn in range(rounds):
            for number, sock in enumerate(expected):
                for at in range(LOT):
                    # Large and small ones, and an empty one, which has no number.
                    data = b"%d.%d.%d" % (number, turn, at) + bytes(1400 * (at == 1)) if at or turn else b""
                    expected[sock].add(data)
                    sock.send(data)
                    self.sent.append(data)
            deadline = time.monotonic() + PATIENCE
            while (left := [sock for sock in expected if expected[sock]]) and time.monotonic() < deadline:
                for sock in select.select(left, [], [], 0.02)[0]:
                    self._take(list(expected).index(sock), sock, expected[sock], wrong)
            missing += sum(map(len, expected.values()))
        for number, (sock, still) in enumerate(expected.items()):
            while select.select([sock], [], [], 0)[0]:
                self._take(number, sock, still, wrong)
                missing -= 1
            sock.close()
        return wrong, missing

    def _take(self, number: int, sock: socket.socket, expected: set[bytes], wrong: list[str]) -> None:
        got = sock.recv(65535)
        self.received += 1
        if got not in expected:
            self.again += 1
            if got.partition(b".")[0] not in {b"", b"%d" % number} or got not in self.sent:
                wrong.append(f"a datagram that this client has not sent: {got[:20]!r}, {len(got)} octets")
        expected.discard(got)

    def stop(self) -> None:
        """End the servers."""
        for one in self.servers:
            one.close()
