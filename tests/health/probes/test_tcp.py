"""The tcp probe against honest and hostile servers on loopback."""

import asyncio
import socket
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from health.probes import make, run_once
from health.probes.base import Attempt, Failed
from health.spec import TcpProbe

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


async def mute(reader: Reader, writer: Writer) -> None:
    await reader.read()


async def greet(reader: Reader, writer: Writer) -> None:
    writer.write(b"220 mail.example.net ESMTP\r\n")
    await reader.read()


async def echo(reader: Reader, writer: Writer) -> None:
    while data := await reader.read(100):
        writer.write(data)


async def endless(reader: Reader, writer: Writer) -> None:
    while True:
        writer.write(b"220-and so on\r\n" * 1000)
        await writer.drain()


async def trickle(reader: Reader, writer: Writer) -> None:
    while True:
        writer.write(b"2")
        await writer.drain()
        await asyncio.sleep(0.02)


async def garbage(reader: Reader, writer: Writer) -> None:
    writer.write(bytes(range(256)))
    await reader.read()


async def hang_up(reader: Reader, writer: Writer) -> None:
    writer.close()


async def half(reader: Reader, writer: Writer) -> None:
    writer.write(b"22")


async def reset(reader: Reader, writer: Writer) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


@pytest.fixture
def closed_port() -> int:
    """Return a port below the ephemeral range that nobody listens on."""
    for port in range(20000, 20100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("no closed port found")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_connects(tcp_server, leftovers, host: str) -> None:
    """H4: a listening server passes, over IPv4 and IPv6, with a transcript, and nothing stays open."""
    server, port = await tcp_server(mute, host)
    leftovers.mark()
    outcome, lines = await run_once(TcpProbe(), host, port)
    assert outcome.ok
    assert outcome.reason.startswith("connected in ")
    shown = f"[{host}]" if ":" in host else host
    assert lines[0] == f"-> connect {shown}:{port}/tcp"
    assert lines[1].startswith("<- connected, ")
    assert lines[-1] == f"pass: {outcome.reason}"
    await asyncio.wait_for(server.arrived.wait(), 5)
    await leftovers.check()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_closed_port_fails_at_once(closed_port: int, leftovers, host: str) -> None:
    """H3, H13: a closed port is "connection refused" at once, not at the timeout."""
    outcome, _ = await run_once(TcpProbe(timeout=20, interval=20), host, closed_port)
    assert (outcome.ok, outcome.reason) == (False, "connection refused")
    assert outcome.latency < 1.0
    await leftovers.check()


async def test_silent_connect_ends_at_the_timeout(leftovers) -> None:
    """H4, H13: a server with a full queue does not answer the connect, and the reason says so at the timeout."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):
            queued = [socket.socket() for _ in range(4)]  # the kernel takes one more than it was told, then drops
            for one in queued:
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            outcome, _ = await run_once(TcpProbe(timeout=0.2), *full.getsockname())
            for one in queued:
                one.close()
    assert (outcome.ok, outcome.reason) == (False, "no answer to the connect within 0.2 s")
    await leftovers.check()


async def test_expects_a_greeting(tcp_server) -> None:
    """A server-first protocol's greeting is waited for, anywhere in what comes."""
    _, port = await tcp_server(greet)
    outcome, lines = await run_once(TcpProbe(expect="ESMTP"), "127.0.0.1", port)
    assert outcome.ok
    assert outcome.reason.startswith("answered as expected in ")
    assert '<- 28 bytes "220 mail.example.net ESMTP\\r\\n"' in lines


@pytest.mark.parametrize("spec", [TcpProbe(send="PING", expect="PING"), TcpProbe(send_hex="00ff", expect_hex="00 ff")])
async def test_sends_and_expects(tcp_server, spec: TcpProbe) -> None:
    """Text and hexadecimal bytes are sent and expected as they are."""
    _, port = await tcp_server(echo)
    outcome, _ = await run_once(spec, "127.0.0.1", port)
    assert outcome.ok


async def test_sends_what_it_is_told(tcp_server) -> None:
    """A send without expect passes when all is sent, and the server gets every byte."""
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def collect(reader: Reader, writer: Writer) -> None:
        got.put_nowait(await reader.read(-1))

    _, port = await tcp_server(collect)
    outcome, _ = await run_once(TcpProbe(send="QUIT\r\n" * 10000), "127.0.0.1", port)
    assert outcome.ok
    assert await asyncio.wait_for(got.get(), 5) == b"QUIT\r\n" * 10000


async def test_expected_across_segments(tcp_server) -> None:
    """The expected bytes are found where they straddle reads."""

    async def slow(reader: Reader, writer: Writer) -> None:
        for letter in b"x" * 50 + b"220":
            writer.write(bytes([letter]))
            await asyncio.sleep(0.001)
        await reader.read()

    _, port = await tcp_server(slow)
    outcome, _ = await run_once(TcpProbe(expect="220", timeout=2), "127.0.0.1", port)
    assert outcome.ok


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        (mute, '"221" did not come within 0.3 s'),
        (trickle, '"221" did not come within 0.3 s, only "2222'),
        (garbage, '"221" did not come within 0.3 s, only "\\x00\\x01'),
        (endless, "sends data without end: 64 KiB read"),
        (hang_up, 'closed by the server without an answer, before "221"'),
        (half, 'closed by the server after "22", before "221"'),
        (reset, "connection reset"),
    ],
)
async def test_hostile_servers(tcp_server, leftovers, talk: object, reason: str) -> None:
    """H4, H13: whatever the server does, the probe ends by its timeout, says why, and leaves nothing open."""
    _, port = await tcp_server(talk)
    leftovers.mark()
    begun = time.monotonic()
    outcome, _ = await run_once(TcpProbe(expect="221", timeout=0.3), "127.0.0.1", port)
    assert time.monotonic() - begun < 1.5
    assert not outcome.ok
    assert outcome.reason.startswith(reason)
    await leftovers.check()


async def test_server_that_reads_nothing(leftovers) -> None:
    """H4: a server that lets our bytes pile up holds the probe no longer than its timeout."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        spec = TcpProbe(send="x" * 20_000_000, timeout=0.3)
        outcome, _ = await run_once(spec, *listener.getsockname())
    assert (outcome.ok, outcome.reason) == (False, "could not send: the server does not read within 0.3 s")
    await leftovers.check()


async def test_endless_talk_costs_no_memory_where_nothing_is_expected(tcp_server, leftovers) -> None:
    """H4: a probe that only connects passes against an endless banner, and reads no more than its bound."""
    _, port = await tcp_server(endless)
    leftovers.mark()
    outcome, _ = await run_once(TcpProbe(), "127.0.0.1", port)
    assert outcome.ok
    await leftovers.check()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6))
def test_any_bytes_are_harmless(pieces: list[bytes]) -> None:
    """S9: whatever bytes a server sends, the probe passes exactly when they hold the expected ones."""

    async def serve(listener: socket.socket) -> None:
        peer, _ = await asyncio.get_running_loop().sock_accept(listener)
        with peer:
            for piece in pieces:
                peer.send(piece)

    async def once() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            run = run_once(TcpProbe(expect_hex="00"), *listener.getsockname())
            (outcome, _), _ = await asyncio.gather(run, serve(listener))
        assert outcome.ok == (b"\0" in b"".join(pieces))
        assert outcome.reason.isprintable()

    asyncio.run(once())


async def test_cancelled_at_each_await(tcp_server, leftovers, cancelled_at) -> None:
    """H4: cancelled at any of its waits, a run leaves no descriptor and no watched descriptor behind."""
    _, port = await tcp_server(echo)
    leftovers.mark()
    spec = TcpProbe(send="PING", expect="PING")
    steps = await cancelled_at(lambda: run_once(spec, "127.0.0.1", port), leftovers)
    assert steps == 2  # the connect and the answer


async def test_check_raises_failed_itself(closed_port: int) -> None:
    """The probe's one method says by `Failed` what is wrong, without knowing of clocks and verdicts."""
    attempt = Attempt("127.0.0.1", closed_port, 1.0)
    try:
        with pytest.raises(Failed, match="connection refused"):
            await make(TcpProbe()).check(attempt)
    finally:
        attempt.close()
