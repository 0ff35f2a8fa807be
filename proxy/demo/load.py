"""The demo's clients: DNS queries and TCP connections at a steady rate, each counted by the server that answered it."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import dns.message
import dns.rcode

from proxy.demo.backend import ZONE

ONE_TRY = (5.0,)  # s, the timeout of a stub resolver (resolv.conf(5)); a second try would hide a loss
CONNECTION_TIMEOUT = 5.0  # s


@dataclass(slots=True)
class Tally:
    """The results of the queries or of the connections."""

    sent: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    repeated: int = 0  # queries that were sent again because no answer came in time
    cut: int = 0  # connections that were open on a server or a worker when it was killed: no balancer can save these
    slowest: float = 0.0

    def took(self, who: str, seconds: float) -> None:
        """Count an answer."""
        self.answered[who] += 1
        self.slowest = max(self.slowest, seconds)

    @property
    def losses(self) -> int:
        """The number of queries or connections without an answer, or with a wrong one."""
        return self.lost.total()


class _Resolver(asyncio.DatagramProtocol):
    """One client socket; answers are matched to queries by their ID."""

    def __init__(self) -> None:
        self.waiting: dict[int, asyncio.Future[bytes]] = {}
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002 - a connected socket
        """Pass an answer to the query that waits for it."""
        future = self.waiting.get(int.from_bytes(data[:2], "big"))
        if future is not None and not future.done():
            future.set_result(data)


class Load:
    """Steady load on one DNS service and one TCP service until `stop`.

    `queries` and `connections` tally those that began since the last `turn`; `heard` has the times of the answers to
    queries, in monotonic seconds.
    """

    def __init__(
        self,
        dns_at: tuple[str, int],
        tcp_at: tuple[str, int],
        queries: float,
        connections: float,
        tries: Sequence[float] = ONE_TRY,
    ) -> None:
        """Aim at two addresses; `queries` and `connections` are a second, `tries` are the seconds that each try waits."""
        self.queries = Tally()
        self.connections = Tally()
        self.heard: list[float] = []
        self._tries = tries
        self._dns_at = dns_at
        self._tcp_at = tcp_at
        self._pace = {"query": 1 / queries, "connection": 1 / connections}
        self._running = True
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send until stopped, then wait for the queries and connections that are still open."""
        loop = asyncio.get_running_loop()
        sockets = [await loop.create_datagram_endpoint(_Resolver, remote_addr=self._dns_at) for _ in range(8)]
        resolvers = [protocol for _, protocol in sockets]
        await asyncio.gather(self._send_queries(resolvers), self._send_connections())
        await asyncio.gather(*self._tasks)
        for transport, _ in sockets:
            transport.close()

    def stop(self) -> None:
        """Stop sending."""
        self._running = False

    def turn(self) -> tuple[Tally, Tally]:
        """Begin new tallies of queries and connections; those under way count in the tally in which they began."""
        self.queries, self.connections = Tally(), Tally()
        return self.queries, self.connections

    async def _send_queries(self, resolvers: list[_Resolver]) -> None:
        number = 0
        due = time.monotonic()
        while self._running:
            number += 1
            self._begin(self._query(resolvers[number % len(resolvers)], number))
            due += self._pace["query"]
            await asyncio.sleep(due - time.monotonic())

    async def _send_connections(self) -> None:
        due = time.monotonic()
        while self._running:
            self._begin(self._connection())
            due += self._pace["connection"]
            await asyncio.sleep(due - time.monotonic())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _query(self, resolver: _Resolver, number: int) -> None:
        tally = self.queries
        tally.sent += 1
        query = dns.message.make_query(f"host{number % 1000}.{ZONE}", "TXT", id=number % 65536)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        resolver.waiting[query.id] = future
        began = time.monotonic()
        try:
            for attempt, patience in enumerate(self._tries):
                tally.repeated += attempt == 1
                resolver.transport.sendto(query.to_wire())
                if (await asyncio.wait([future], timeout=patience))[0]:
                    break
            else:
                tally.lost["no answer"] += 1
                return
            reply = dns.message.from_wire(future.result())
            if reply.rcode() != dns.rcode.NOERROR or not reply.answer:
                tally.lost[dns.rcode.to_text(reply.rcode())] += 1
            else:
                now = time.monotonic()
                self.heard.append(now)
                tally.took(str(reply.answer[0][0]).strip('"'), now - began)
        finally:
            resolver.waiting.pop(query.id, None)

    async def _connection(self) -> None:
        tally = self.connections
        tally.sent += 1
        began = time.monotonic()
        greeted = False
        try:
            async with asyncio.timeout(CONNECTION_TIMEOUT):
                reader, writer = await asyncio.open_connection(*self._tcp_at)
                with contextlib.closing(writer):
                    greeting = await reader.readline()
                    greeted = bool(greeting)
                    writer.write(b"how are you?\n")
                    echoed = await reader.readline()
                    writer.write_eof()
                    await reader.read()
        except TimeoutError:
            tally.lost["no answer"] += 1
        except OSError as error:
            if greeted:
                tally.cut += 1
            else:
                tally.lost[error.strerror or type(error).__name__] += 1
        else:
            who = greeting.decode("ascii", "replace").removeprefix("hello from ").strip()
            if who and echoed == b"how are you?\n":
                tally.took(who, time.monotonic() - began)
            elif greeted:
                tally.cut += 1
            else:
                tally.lost["closed without a greeting"] += 1
