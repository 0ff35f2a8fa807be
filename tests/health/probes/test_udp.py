"""The udp probe against honest and hostile servers on loopback."""

import asyncio
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from health.probes import run_once
from health.probes.proxyheader import LOCAL
from health.spec import UdpProbe


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_answers(udp_server, leftovers, host: str) -> None:
    """H10: any answer passes, also an empty one, over IPv4 and IPv6, with a transcript."""
    for reply in (b"pong", b""):
        _, port = await udp_server(lambda _data, reply=reply: [reply], host)
        leftovers.mark()
        outcome, lines = await run_once(UdpProbe(send="ping"), host, port)
        assert outcome.ok
        assert outcome.reason.startswith("answered in ")
        assert lines[1:3] == ['-> 4 bytes "ping"', f'<- {len(reply)} bytes "{reply.decode()}"']
        await leftovers.check()


@pytest.mark.parametrize("spec", [UdpProbe(send="ping", expect="ping"), UdpProbe(send_hex="00 ff", expect_hex="00ff")])
async def test_sends_and_expects(udp_server, spec: UdpProbe) -> None:
    """H10: text and hexadecimal bytes are sent and expected as they are, anywhere in a datagram."""
    _, port = await udp_server(lambda data: [b"<" + data + b">"])
    outcome, _ = await run_once(spec, "127.0.0.1", port)
    assert outcome.ok
    assert outcome.reason.startswith("answered as expected in ")


async def test_wrong_answers_are_passed_over(udp_server) -> None:
    """H10: a wrong answer before the right one does not fail the probe: anybody can send such a thing."""
    _, port = await udp_server(lambda data: [b"nonsense", data])
    outcome, lines = await run_once(UdpProbe(send="ping", expect="ping"), "127.0.0.1", port)
    assert outcome.ok
    assert '<- 8 bytes "nonsense"' in lines


async def test_closed_port_fails_at_once(leftovers) -> None:
    """H3, H13: ICMP reports a closed port at once, before the timeout."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    outcome, _ = await run_once(UdpProbe(send="ping", timeout=20, interval=20), "127.0.0.1", port)
    assert (outcome.ok, outcome.reason) == (False, "port closed (ICMP port unreachable)")
    assert outcome.latency < 1.0
    await leftovers.check()


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ([], 'no answer with "pong" within 0.2 s'),
        ([b"ping"], 'no answer with "pong" within 0.2 s, only "ping"'),
        ([b""] * 5, 'no answer with "pong" within 0.2 s, only ""'),
        ([b"x" * 60000] * 3, "sends data without end: 64 KiB read"),
    ],
)
async def test_hostile_servers(udp_server, leftovers, replies: list[bytes], reason: str) -> None:
    """H4, H13: silent, wrong and talkative servers fail by the timeout, in words, and leave nothing open."""
    _, port = await udp_server(lambda _data: replies)
    leftovers.mark()
    outcome, lines = await run_once(UdpProbe(send="ping", expect="pong", timeout=0.2), "127.0.0.1", port)
    assert (outcome.ok, outcome.reason) == (False, reason)
    assert len(lines) < 8
    await leftovers.check()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
def test_any_bytes_are_harmless(replies: list[bytes]) -> None:
    """S9: whatever datagrams come, the probe passes exactly when one of them holds the expected bytes."""

    async def once() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            server.setblocking(False)

            def serve() -> None:
                _, client = server.recvfrom(100)
                for reply in [*replies, b"end"]:
                    server.sendto(reply, client)

            asyncio.get_running_loop().add_reader(server, serve)
            spec = UdpProbe(send="ping", expect_hex="00", timeout=0.05)
            outcome, _ = await run_once(spec, *server.getsockname())
            asyncio.get_running_loop().remove_reader(server)
        assert outcome.ok == any(b"\0" in reply for reply in replies)
        assert outcome.reason.isprintable()

    asyncio.run(once())


async def test_cancelled_at_each_await(udp_server, leftovers, cancelled_at) -> None:
    """H4: cancelled at its wait, a run leaves no descriptor and no watched descriptor behind."""
    _, port = await udp_server(lambda data: [data])
    leftovers.mark()
    assert await cancelled_at(lambda: run_once(UdpProbe(send="ping"), "127.0.0.1", port), leftovers) == 1


@pytest.mark.parametrize(("version", "head"), [("v2", LOCAL), ("v1", b""), ("off", b"")])
async def test_a_header_before_the_datagram(udp_server, version: str, head: bytes) -> None:
    """T22: with version 2 the datagram has a PROXY header that speaks for ourselves; version 1 is for TCP, none is sent."""
    seen = []
    _, port = await udp_server(lambda data: [seen.append(data) or b"pong"])
    outcome, _ = await run_once(UdpProbe(send="ping", send_proxy=version), "127.0.0.1", port)
    assert outcome.ok
    assert seen == [head + b"ping"]
