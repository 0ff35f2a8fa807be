"""The demo's clients count truly."""

import asyncio
import socket

from proxy.demo import backend
from proxy.demo.load import Load


def free_port() -> int:
    """A port that is free for both transports just now."""
    with socket.socket() as stream:
        stream.bind(("127.0.0.1", 0))
        return int(stream.getsockname()[1])


async def test_answers_are_counted_by_who_gave_them() -> None:
    """What the servers answer is counted under their names, and nothing is lost while they live."""
    dns_port, tcp_port = free_port(), free_port()
    servers = [
        asyncio.ensure_future(backend._dns("ns1", "127.0.0.1", dns_port)),
        asyncio.ensure_future(backend._greeter("app1", "127.0.0.1", tcp_port)),
    ]
    await asyncio.sleep(0.2)
    load = Load(("127.0.0.1", dns_port), ("127.0.0.1", tcp_port), queries=200, connections=50)
    running = asyncio.ensure_future(load.run())
    await asyncio.sleep(0.5)
    load.stop()
    await running
    for server in servers:
        server.cancel()
    await asyncio.gather(*servers, return_exceptions=True)
    assert load.queries.sent == load.queries.answered["ns1"] > 20
    assert load.connections.sent == load.connections.answered["app1"] > 5
    assert load.queries.losses == load.connections.losses == load.connections.cut == 0


async def test_refused_connections_are_losses() -> None:
    """A connection that nobody accepts counts as lost, with the reason."""
    load = Load(("127.0.0.1", free_port()), ("127.0.0.1", free_port()), queries=0.1, connections=20)
    load.queries.sent = 0
    await load._connection()
    assert load.connections.losses == 1
    assert load.connections.lost.total() == 1
