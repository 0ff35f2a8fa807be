"""DNS queries through a relay whose system calls fail."""

import select
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from proxy.relay.plan import DnsPlan
from tests.proxy.relay import dnsbed
from tests.sanitize.trial import Counters, Trial

if TYPE_CHECKING:
    import socket

CLIENTS = 4
QUERIES = 25  # of each client at a time
GIVE_UP = 0.35
LOST = ("no_memory", "no_descriptor")
"""The counters of queries that may get no answer at all."""


class DnsTrial(Trial):
    """Clients of four sockets, two servers that answer each query with its own question."""

    protocol = "dns"

    def prepare(self) -> None:
        """Add a service with two servers."""
        self.servers = [dnsbed.Server(lambda message: dnsbed.answer(message, b"tail")) for _ in range(2)]
        self.address = self.relay.service(
            [one.address for one in self.servers],
            protocol="dns",
            transports=("udp",),
            dns=DnsPlan(retry_after=0.05, give_up=GIVE_UP),
        )
        self.sent = self.received = 0

    def traffic(self) -> list[str]:
        """Ask a hundred queries at once."""
        return self._ask(CLIENTS, QUERIES)[0]

    def works(self) -> bool:
        """Ask again until every query gets the answer of a server: a socket may have to be replaced first."""
        deadline = time.monotonic() + 3.0
        while time.monotonic() < deadline:
            wrong, answered = self._ask(1, 10)
            if wrong:
                return False
            if answered == 10:
                return True
        return False

    def balance(self, before: Counters, after: Counters) -> Iterator[str]:
        """Each datagram is a query, and each query got an answer or is counted as one without."""
        sent, received = self.sent, self.received
        lost = after.since(before, *LOST)
        datagrams, queries = after.since(before, "datagrams"), after.since(before, "queries")
        if not sent - lost <= datagrams <= sent:
            yield f"{datagrams} datagrams are counted of {sent}"
        if not datagrams - lost <= queries <= datagrams:
            yield f"{queries} queries are counted of {datagrams} datagrams"
        unsent = after.since(before, "unsent_replies")
        if not queries - lost <= received + unsent <= queries:
            yield f"{queries} queries, but {received} answers and {unsent} unsent, {lost} lost"
        answers = after.since(before, "replies", "servfail")
        if not received <= answers <= received + unsent:
            yield f"{answers} answers are counted, {received} arrived, {unsent} were not sent"

    def _ask(self, clients: int, queries: int) -> tuple[list[str], int]:
        """Ask; return what was wrong, and how many queries a server answered."""
        wrong: list[str] = []
        asked: dict[socket.socket, dict[int, bytes]] = {}
        answered = 0
        for number in range(clients):
            sock = dnsbed.client(self.address)
            asked[sock] = {}
            for at in range(queries):
                message = dnsbed.query(f"c{number}q{at}.example.net", ident=at * 257 & 0xFFFF)
                asked[sock][at * 257 & 0xFFFF] = message
                sock.send(message)
                self.sent += 1
        deadline = time.monotonic() + GIVE_UP + 0.3
        while (left := [sock for sock in asked if asked[sock]]) and time.monotonic() < deadline:
            for sock in select.select(left, [], [], 0.05)[0]:
                got = sock.recv(65535)
                self.received += 1
                said = _wrong(got, asked[sock])
                wrong += said
                answered += not said and got[3] & 15 == 0
        for sock in asked:
            sock.setblocking(False)  # a second answer would be here by now
            try:
                wrong.append(f"one answer too many: {sock.recv(65535).hex()}")
                self.received += 1
            except BlockingIOError:
                sock.close()
        return wrong, answered

    def stop(self) -> None:
        """End the servers."""
        for one in self.servers:
            one.close()


def _wrong(got: bytes, asked: dict[int, Any]) -> list[str]:
    """Return what is wrong with an answer to one of the queries, which are known by ID."""
    ident = int.from_bytes(got[:2], "big")
    message = asked.pop(ident, None)
    if message is None:
        return [f"an answer to no query: {got.hex()}"]
    if got == dnsbed.answer(message, b"tail") or got == dnsbed.answer(message, rcode=2)[:2] + got[2:4] + message[4:]:
        return []
    return [f"a wrong answer: {got.hex()} to {message.hex()}"]
