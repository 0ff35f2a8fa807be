"""The demo's clients count truly."""

import asyncio
import socket

from proxy.demo import backend
from proxy.demo.load import Load, _Resolver


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


async def test_a_query_is_repeated_before_it_is_lost() -> None:
    """A query that nobody answers is sent once for each try, and is lost, once, after the last one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        load = Load(mute.getsockname(), ("127.0.0.1", free_port()), queries=0.1, connections=0.1, tries=(0.02, 0.02))
        transport, resolver = await asyncio.get_running_loop().create_datagram_endpoint(
            _Resolver, remote_addr=mute.getsockname()
        )
        await load._query(resolver, 7)
        transport.close()
        assert mute.recv(512) == mute.recv(512)
    tally = load.queries
    assert (tally.sent, tally.repeated, tally.losses) == (1, 1, 1)
    assert not resolver.waiting
    assert load.heard == []


async def test_a_turn_begins_new_tallies() -> None:
    """What is under way at a turn counts in the tally in which it began."""
    load = Load(("127.0.0.1", free_port()), ("127.0.0.1", free_port()), queries=0.1, connections=20)
    before = load.connections
    under_way = asyncio.ensure_future(load._connection())
    await asyncio.sleep(0)
    assert load.turn() == (load.queries, load.connections)
    await under_way
    assert (before.sent, before.losses) == (1, 1)
    assert (load.connections.sent, load.connections.losses) == (0, 0)
