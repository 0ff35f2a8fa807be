"""The dns probe against honest and hostile servers on loopback."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterable

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from health.probes import NotSupported, attempt_once, make, run_once
from health.spec import DnsProbe

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Change = Callable[[dns.message.Message], object]

QUERY = "www.example.net A"


async def test_a_new_label_each_run(dns_server) -> None:
    """H7: {random} in the name is another label in each run, the same over UDP and TCP of one run."""
    names: list[str] = []

    def answer(query: bytes) -> list[bytes]:
        names.append(dns.message.from_wire(query).question[0].name.to_text())
        return [respond(query)]

    port = await dns_server("udp", answer)
    probe = make(DnsProbe(query="x-{random}.{random}.example.net A"))
    for _ in range(3):
        outcome, lines = await attempt_once(probe, "127.0.0.1", port)
        assert outcome.ok, lines
        assert names[-1].rstrip(".") in lines[1]
    assert len({label for name in names for label in name.removeprefix("x-").split(".")[:2]}) == 6
    assert all(name.endswith(".example.net.") and "{" not in name for name in names)


def respond(query: bytes, change: Change = lambda _: None, address: str = "192.0.2.1") -> bytes:
    """Answer a query with one A record; `change` spoils the response."""
    response = dns.message.make_response(dns.message.from_wire(query))
    response.flags |= dns.flags.AA
    if response.question[0].rdtype == dns.rdatatype.A:
        response.answer.append(dns.rrset.from_text(response.question[0].name, 60, "IN", "A", address))
    change(response)
    return response.to_wire()


def answering(change: Change = lambda _: None) -> Callable[[bytes], Iterable[bytes]]:
    return lambda query: [respond(query, change)]


def over_tcp(answer: Callable[[bytes], Iterable[bytes]]) -> Callable[[Reader, Writer], object]:
    """Return the TCP server that answers like a UDP one, each reply behind its length."""

    async def talk(reader: Reader, writer: Writer) -> None:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        for reply in answer(query):
            writer.write(len(reply).to_bytes(2, "big") + reply)
        await reader.read()

    return talk


@pytest.fixture
def dns_server(tcp_server, udp_server) -> Callable[..., Awaitable[int]]:
    """Return a function that starts a DNS server over UDP or TCP and returns its port."""

    async def start(transport: str, answer: Callable[[bytes], Iterable[bytes]]) -> int:
        _, port = await (udp_server(answer) if transport == "udp" else tcp_server(over_tcp(answer)))
        return port

    return start


def rcode(code: int) -> Change:
    def change(response: dns.message.Message) -> None:
        response.set_rcode(code)
        response.answer.clear()

    return change


def lame(response: dns.message.Message) -> None:
    response.answer.clear()
    response.flags &= ~dns.flags.AA
    response.authority.append(dns.rrset.from_text("net.", 60, "IN", "NS", "a.gtld-servers.example."))


def no_authority(response: dns.message.Message) -> None:
    response.flags &= ~dns.flags.AA


def truncate(response: dns.message.Message) -> None:
    response.flags |= dns.flags.TC
    response.answer.clear()


JUDGED = [
    (DnsProbe(query=QUERY), answering(), ""),
    (DnsProbe(query=QUERY), answering(rcode(dns.rcode.SERVFAIL)), "answered SERVFAIL, not NOERROR"),
    (DnsProbe(query=QUERY), answering(rcode(dns.rcode.REFUSED)), "answered REFUSED, not NOERROR"),
    (DnsProbe(query=QUERY), answering(rcode(dns.rcode.NXDOMAIN)), "answered NXDOMAIN, not NOERROR"),
    (DnsProbe(query=QUERY, rcode="NXDOMAIN"), answering(rcode(dns.rcode.NXDOMAIN)), ""),
    (DnsProbe(query=QUERY, rcode=("NXDOMAIN", "REFUSED")), answering(), "answered NOERROR, not NXDOMAIN or REFUSED"),
    (DnsProbe(query=QUERY), answering(lame), "lame: refers to a.gtld-servers.example instead of answering"),
    (
        DnsProbe(query="www.example.net MX"),
        answering(),
        "answered NOERROR without a record for www.example.net MX",
    ),
    (DnsProbe(query=QUERY, expect="192.0.2.1"), answering(), ""),
    (DnsProbe(query=QUERY, expect="192.0.2.9"), answering(), 'wrong answer: "192.0.2.1", not "192.0.2.9"'),
    (DnsProbe(query=QUERY, authoritative=True), answering(), ""),
    (
        DnsProbe(query=QUERY, authoritative=True),
        answering(no_authority),
        "the answer must be authoritative, but AA is not set",
    ),
    (DnsProbe(query=QUERY, authoritative=False), answering(), "the answer must be not authoritative, but AA is set"),
    (DnsProbe(query=QUERY, authoritative=False), answering(no_authority), ""),
    (DnsProbe(), answering(rcode(dns.rcode.REFUSED)), ""),
    (DnsProbe(), answering(), ""),
    (DnsProbe(), answering(rcode(dns.rcode.SERVFAIL)), "answered SERVFAIL, not NOERROR or REFUSED"),
]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(("spec", "answer", "reason"), JUDGED)
async def test_answers_are_judged(
    dns_server, transport: str, spec: DnsProbe, answer: Callable[[bytes], Iterable[bytes]], reason: str
) -> None:
    """H7, H13: NOERROR with the wanted answer passes over UDP and TCP; each other answer fails with what it was."""
    port = await dns_server(transport, answer)
    outcome, lines = await run_once(spec.model_copy(update={"transport": transport}), "127.0.0.1", port)
    assert outcome.ok == (not reason)
    if reason:
        assert outcome.reason == reason
    else:
        assert outcome.reason.startswith("answered ")
        assert f" over {transport.upper()} in " in outcome.reason
    assert lines[0] == f"-> connect 127.0.0.1:{port}/{transport}"


async def test_transcript(udp_server) -> None:
    """A run shows what was asked and what came."""
    _, port = await udp_server(answering(), "::1")
    outcome, lines = await run_once(DnsProbe(query=QUERY), "::1", port)
    assert lines[0] == f"-> connect [::1]:{port}/udp"
    assert lines[1].startswith("-> query www.example.net A id 0x")
    assert lines[2].startswith("<- NOERROR, 1 answer, authoritative, ")
    assert lines[3:] == ['<-   "192.0.2.1"', f"pass: {outcome.reason}"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_closed_udp_port_fails_at_once(leftovers, host: str) -> None:
    """H3, H13: the ICMP error of a closed port ends the probe at once, not at the timeout."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind((host, 0))
        port = free.getsockname()[1]
    outcome, _ = await run_once(DnsProbe(timeout=20, interval=20), host, port)
    assert (outcome.ok, outcome.reason) == (False, "port closed (ICMP port unreachable)")
    assert outcome.latency < 1.0
    await leftovers.check()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_mute_server(dns_server, leftovers, transport: str) -> None:
    """H4, H13: if a server takes the query and never answers, the reason says so at the timeout."""
    port = await dns_server(transport, lambda _: [])
    leftovers.mark()
    outcome, _ = await run_once(DnsProbe(transport=transport, timeout=0.2), "127.0.0.1", port)
    assert (outcome.ok, outcome.reason) == (False, f"no answer to the query over {transport.upper()} within 0.2 s")
    assert 0.2 <= outcome.latency < 1.0
    await leftovers.check()


def wrong_id(query: bytes) -> list[bytes]:
    return [bytes([query[0] ^ 1]) + respond(query)[1:]]


def wrong_question(query: bytes) -> list[bytes]:
    other = dns.message.make_query("other.example.net", "A")
    other.id = int.from_bytes(query[:2], "big")
    return [respond(other.to_wire())]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (wrong_id, "with a wrong ID"),
        (wrong_question, "to another question"),
        (lambda query: [query], "that is a query"),
        (lambda _: [b"xyz"], "too short for a DNS message"),
        (lambda _: [b""], "too short for a DNS message"),
    ],
)
async def test_what_is_not_ours_over_udp(
    udp_server, leftovers, answer: Callable[[bytes], Iterable[bytes]], why: str
) -> None:
    """H7, H13: over UDP a reply that is not ours is ignored until the timeout, and the reason tells of it."""
    _, port = await udp_server(answer)
    outcome, _ = await run_once(DnsProbe(query=QUERY, timeout=0.2), "127.0.0.1", port)
    assert not outcome.ok
    assert outcome.reason == f"no answer to the query over UDP within 0.2 s (1 reply ignored, the last {why})"


async def test_right_reply_after_wrong_ones_passes(udp_server) -> None:
    """H7: foreign replies do not hide the right reply."""
    _, port = await udp_server(lambda query: [*wrong_id(query), *wrong_question(query), b"", respond(query)])
    outcome, lines = await run_once(DnsProbe(query=QUERY), "127.0.0.1", port)
    assert outcome.ok
    assert sum("ignored: " in line for line in lines) == 3


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (wrong_id, "sent a reply with a wrong ID"),
        (wrong_question, "sent a reply to another question"),
        (lambda query: [query], "sent a reply that is a query"),
        (lambda _: [b"xyz"], "sent a reply too short for a DNS message"),
        (lambda _: [b""], "sent a reply too short for a DNS message"),
    ],
)
async def test_what_is_not_ours_over_tcp(tcp_server, answer: Callable[[bytes], Iterable[bytes]], why: str) -> None:
    """H7: a foreign reply over TCP fails at once, because only the server can have sent it."""
    _, port = await tcp_server(over_tcp(answer))
    outcome, _ = await run_once(DnsProbe(query=QUERY, transport="tcp"), "127.0.0.1", port)
    assert (outcome.ok, outcome.reason) == (False, why)


def loop_in_answer(query: bytes) -> list[bytes]:
    return [query[:2] + b"\x80\0\0\1\0\1\0\0\0\0" + query[12:] + b"\xc0" + bytes([len(query)])]


def cut(query: bytes) -> list[bytes]:
    return [respond(query)[:-3]]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (loop_in_answer, "malformed answer: a compression loop in the answer"),
        (cut, "malformed answer: the answer cannot be read"),
    ],
)
async def test_malformed_answers(
    dns_server, leftovers, transport: str, answer: Callable[[bytes], Iterable[bytes]], why: str
) -> None:
    """H4, H13: a compression loop or a cut message fails at once, in words."""
    port = await dns_server(transport, answer)
    leftovers.mark()
    outcome, _ = await run_once(DnsProbe(query=QUERY, transport=transport), "127.0.0.1", port)
    assert not outcome.ok
    assert outcome.reason.startswith(why)
    await leftovers.check()


async def test_flood_of_strangers_ends(udp_server, leftovers) -> None:
    """H4: thousands of datagrams that are not ours, empty ones too, end the probe by its timeout."""
    _, port = await udp_server(lambda query: [b"", *wrong_id(query)] * 3000)
    begun = time.monotonic()
    outcome, _ = await run_once(DnsProbe(query=QUERY, timeout=0.5), "127.0.0.1", port)
    assert not outcome.ok
    assert time.monotonic() - begun < 3.0


async def prefix(reader: Reader, writer: Writer) -> None:
    writer.write(b"\xff\xff")
    await reader.read()


async def sixteen_megabytes(reader: Reader, writer: Writer) -> None:
    for _ in range(256):
        writer.write(b"\xff\xff" + bytes(65535))
        await writer.drain()


async def trickle(reader: Reader, writer: Writer) -> None:
    while True:
        writer.write(b"\0")
        await writer.drain()
        await asyncio.sleep(0.02)


async def slowly(reader: Reader, writer: Writer) -> None:
    for letter in b"\x0f\xff" + bytes(4095):
        writer.write(bytes([letter]))
        await writer.drain()
        await asyncio.sleep(0.02)


async def text(reader: Reader, writer: Writer) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")
    await reader.read()


async def close_at_once(reader: Reader, writer: Writer) -> None:
    writer.close()


async def close_after_query(reader: Reader, writer: Writer) -> None:
    await reader.read(100)


async def close_in_length(reader: Reader, writer: Writer) -> None:
    await reader.read(100)
    writer.write(b"\0")


async def close_in_answer(reader: Reader, writer: Writer) -> None:
    await reader.read(100)
    writer.write(b"\0\x40abcdef")


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        (prefix, "announced an answer of 65535 bytes, more than a probe reads"),
        (sixteen_megabytes, "announced an answer of 65535 bytes, more than a probe reads"),
        (trickle, "sent a reply too short for a DNS message"),
        (slowly, "the answer of 4095 bytes did not come whole within 0.3 s"),
        (text, "the answer of 21331 bytes did not come whole within 0.3 s"),
        (close_at_once, "closed by the server after 0 of 2 bytes of the answer's length|connection reset"),
        (close_after_query, "closed by the server after 0 of 2 bytes of the answer's length"),
        (close_in_length, "closed by the server after 1 of 2 bytes of the answer's length"),
        (close_in_answer, "closed by the server after 6 of 64 bytes of the answer"),
    ],
)
async def test_hostile_tcp_servers(tcp_server, leftovers, talk: object, reason: str) -> None:
    """H4, H13: lying lengths, trickles, other protocols and closing at each step end by the timeout, in words."""
    _, port = await tcp_server(talk)
    leftovers.mark()
    outcome, _ = await run_once(DnsProbe(transport="tcp", timeout=0.3), "127.0.0.1", port)
    assert not outcome.ok
    assert outcome.reason in reason.split("|")
    assert outcome.latency < 1.0
    await leftovers.check()


async def both(tcp_server, udp_server, udp: Callable, tcp: Callable | None) -> int:
    """Start a UDP and a TCP server on one port, the latter unless `tcp` is None."""
    for _ in range(20):
        _, port = await udp_server(udp)
        if tcp is None:
            return port
        try:
            await tcp_server(over_tcp(tcp), port=port)
        except OSError:
            continue
        return port
    raise AssertionError("no port is free for both")


async def test_both_transports_must_pass(tcp_server, udp_server) -> None:
    """H7: with transport both a server that answers over UDP alone fails, and the reason names TCP."""
    spec = DnsProbe(query=QUERY, transport="both")
    port = await both(tcp_server, udp_server, answering(), answering())
    outcome, _ = await run_once(spec, "127.0.0.1", port)
    assert outcome.ok
    assert " over UDP and TCP in " in outcome.reason
    port = await both(tcp_server, udp_server, answering(), None)
    outcome, _ = await run_once(spec, "127.0.0.1", port)
    assert (outcome.ok, outcome.reason) == (False, "over TCP: connection refused")


@pytest.mark.parametrize("transport", ["udp", "both"])
async def test_truncated_answer_is_asked_again_over_tcp(tcp_server, udp_server, transport: str) -> None:
    """H7: a truncated answer is asked again over TCP, as a client would, and that answer counts."""
    spec = DnsProbe(query=QUERY, transport=transport, expect="192.0.2.1")
    port = await both(tcp_server, udp_server, answering(truncate), answering())
    outcome, lines = await run_once(spec, "127.0.0.1", port)
    assert outcome.ok
    assert any("truncated" in line for line in lines)
    port = await both(tcp_server, udp_server, answering(truncate), None)
    outcome, _ = await run_once(spec, "127.0.0.1", port)
    assert (outcome.ok, outcome.reason) == (False, "over TCP (truncated over UDP): connection refused")


async def test_truncated_over_tcp_fails(tcp_server) -> None:
    """H7: an answer that is truncated over TCP never becomes whole."""
    _, port = await tcp_server(over_tcp(answering(truncate)))
    outcome, _ = await run_once(DnsProbe(query=QUERY, transport="tcp"), "127.0.0.1", port)
    assert (outcome.ok, outcome.reason) == (False, "answered truncated over TCP")


async def test_ids_and_ports_are_random(udp_server) -> None:
    """U20: each run takes a fresh ID and a fresh source port."""
    seen = []
    _, port = await udp_server(lambda query: (seen.append(query[:2]), [respond(query)])[1])
    for _ in range(20):
        assert (await run_once(DnsProbe(query=QUERY), "127.0.0.1", port))[0].ok
    assert len(set(seen)) >= 18


@pytest.mark.parametrize("recurse", [True, False])
async def test_recursion_is_asked_as_told(udp_server, recurse: bool) -> None:
    """`recurse` is the query's RD flag."""
    seen = []
    _, port = await udp_server(lambda query: (seen.append(query[2] & 1), [respond(query)])[1])
    await run_once(DnsProbe(query=QUERY, recurse=recurse), "127.0.0.1", port)
    assert seen == [int(recurse)]


async def test_each_reply_is_read(udp_server) -> None:
    """H7: what a reply says counts, though the last one was as long and differed in a record or a flag alone."""
    said = iter([("192.0.2.80", True), ("192.0.2.80", True), ("192.0.2.81", True), ("192.0.2.80", False)])

    def answer(query: bytes) -> list[bytes]:
        address, authoritative = next(said)

        def change(response: dns.message.Message) -> None:
            response.answer[0] = dns.rrset.from_text("www.example.net.", 60, "IN", "A", address)
            response.flags = response.flags | dns.flags.AA if authoritative else response.flags & ~dns.flags.AA

        return [respond(query, change)]

    _, port = await udp_server(answer)
    probe = make(DnsProbe(query=QUERY, expect="192.0.2.80", authoritative=True))
    found = [await attempt_once(probe, "127.0.0.1", port) for _ in range(4)]
    assert [outcome.ok for outcome, _ in found] == [True, True, False, False]
    assert [outcome.reason for outcome, _ in found[2:]] == [
        'wrong answer: "192.0.2.81", not "192.0.2.80"', "the answer must be authoritative, but AA is not set",
    ]  # fmt: skip
    assert [lines[3] for _, lines in found[:2]] == ['<-   "192.0.2.80"'] * 2


@pytest.mark.parametrize("transport", ["udp", "tcp", "both"])
async def test_cancelled_at_each_await(tcp_server, udp_server, leftovers, cancelled_at, transport: str) -> None:
    """H4: cancelled at any of its waits, a run leaves no descriptor and no watched descriptor behind."""
    port = await both(tcp_server, udp_server, answering(), answering())
    leftovers.mark()
    spec = DnsProbe(query=QUERY, transport=transport)
    steps = await cancelled_at(lambda: run_once(spec, "127.0.0.1", port), leftovers)
    assert steps == {"udp": 1, "tcp": 3, "both": 4}[transport]


async def test_impossible_names_are_refused() -> None:
    """A query that no DNS message can hold is refused when the probe is made, in words."""
    spec = DnsProbe.model_construct(**{**DnsProbe().model_dump(), "query": "a..b A"})
    with pytest.raises(NotSupported, match="cannot be asked"):
        await run_once(spec, "127.0.0.1", 53)
