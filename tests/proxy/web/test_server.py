"""Tests of the HTTP server, over real sockets."""
# ruff: noqa: ASYNC110 - what a process counts announces no change

import asyncio
import json
import socket

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.web import gate, server
from proxy.web.headers import SECURITY
from tests.proxy.web.bed import backend, service, status


async def test_what_is_where(bed):
    """Each path answers with its type; every answer has the headers that keep a browser safe, and no other origin reads it."""
    bed.show()
    kinds = {
        "/": "text/html", "/status.json": "application/json", "/events.json": "application/json",
        "/metrics": "text/plain; version=0.0.4", "/healthz": "text/plain", "/readyz": "text/plain",
    }  # fmt: skip
    for path, kind in kinds.items():
        code, headers, body = await bed.get(path)
        assert (code, headers["Content-Type"].startswith(kind)) == (200, True), path
        assert SECURITY.items() <= headers.items()
        assert "Access-Control-Allow-Origin" not in headers
        assert headers["Connection"] == "close"
        head = await bed.get(path, method="HEAD")
        assert (head[0], head[2]) == (200, "")
        assert body


async def test_the_status_is_that_of_the_command(bed):
    """`/status.json` is the snapshot, octet by octet, and the master hears that somebody reads."""
    shown = status(service("ünïcode", backend('<b>"')))
    bed.show(shown)
    assert json.loads((await bed.get("/status.json"))[2]) == shown
    assert bed.asked >= 1


async def test_without_a_daemon(bed, monkeypatch):
    """A process whose master is silent is healthy, and says of the rest since when it has heard nothing."""
    monkeypatch.setattr(server, "PATIENCE", 0.05)
    assert (await bed.get("/healthz"))[0] == 200
    for path in ("/readyz", "/metrics", "/status.json"):
        code, _, body = await bed.get(path)
        assert code == 503
        assert "the daemon has sent no snapshot yet" in body
    bed.show()
    monkeypatch.setattr("proxy.web.view.FRESH", -1.0)
    assert "no snapshot for 0 s" in (await bed.get("/readyz"))[2]


async def test_readiness(bed):
    """A host is ready unless it can serve nobody, and then it says why."""
    bed.show(status(service("a", state="down"), service("b", state="degraded")))
    assert (await bed.get("/readyz"))[0] == 200
    bed.show(status(service("a", state="down")))
    code, _, body = await bed.get("/readyz")
    assert (code, body) == (503, "no service has a usable backend\n")


async def test_events(bed):
    """`/events.json` has the last events, as many and since when as it is asked; a parameter that makes no sense is told."""
    bed.view.tell([{"at": float(at), "kind": "verdict", "text": str(at)} for at in range(500)])
    texts = [event["text"] for event in json.loads((await bed.get("/events.json?n=2"))[2])["events"]]
    assert texts == ["498", "499"]
    assert len(json.loads((await bed.get("/events.json"))[2])["events"]) == 200
    since = json.loads((await bed.get("/events.json?since=1970-01-01T00:08:18Z"))[2])["events"]
    assert [event["text"] for event in since] == ["498", "499"]
    code, _, body = await bed.get("/events.json?n=-1")
    assert (code, json.loads(body)) == (400, {"error": "n is a number of events"})
    assert bed.server.refused["malformed"] == 1


@pytest.mark.parametrize(
    ("request_", "code", "counter"),
    [
        ("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", 405, "method"),
        ("DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "method"),
        ("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "not_found"),
        ("GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "not_found"),
        ("GET / HTTP/1.1\r\nHost: attacker.example\r\n\r\n", 421, "bad_host"),
        ("GET / HTTP/1.1\r\nHost: localhost.attacker.example:80\r\n\r\n", 421, "bad_host"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nX: " + "x" * 40_000, 431, "too_long"),
        ("GET /" + "x" * 40_000, 431, "too_long"),
        ("GET / HTTP/1.1\r\n" + "X: y\r\n" * 10_000, 431, "too_long"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else None,
)
async def test_what_is_refused(bed, request_, code, counter):
    """S3: another method, an unknown path, a foreign Host and a long head each have an answer and a counter."""
    answer = await bed.say(request_)
    assert answer.split()[1] == str(code)
    assert bed.server.refused[counter] == 1
    assert (await bed.get("/healthz"))[0] == 200


@pytest.mark.parametrize(
    "text", [b"\x16\x03\x01\x02\x00" * 9 + b"\r\n\r\n", b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
)
async def test_what_is_no_request(bed, text):
    """S3: octets that are no HTTP end their connection alone."""
    answer = await bed.say(text)
    assert answer == "" or answer.split()[1].startswith("4")
    assert (await bed.get("/healthz"))[0] == 200


async def test_strangers(monkeypatch, bed):
    """S3: a client outside `allow` gets 403 whatever it asks, and a reload that lets it in takes effect at once."""
    await bed.server.serve([bed.sock.dup()], ["192.0.2.0/24", "::1/128"])
    assert (await bed.get("/status.json"))[0] == 403
    assert bed.server.refused["not_allowed"] == 1
    await bed.server.serve([bed.sock.dup()], ["127.0.0.1"])
    assert (await bed.get("/healthz"))[0] == 200


async def test_a_slow_client(monkeypatch, bed):
    """S3: a client that sends its head octet by octet, or nothing at all, is told and cut; others are served meanwhile."""
    monkeypatch.setattr(gate, "HEAD_TIME", 0.4)
    reader, writer = await asyncio.open_connection("127.0.0.1", bed.port)
    silent, other = await asyncio.open_connection("127.0.0.1", bed.port)
    for octet in b"GET / HTT":
        writer.write(bytes([octet]))
        await asyncio.sleep(0.02)
    assert (await bed.get("/healthz"))[0] == 200
    assert b" 408 " in await asyncio.wait_for(reader.read(), 5)
    assert b" 408 " in await asyncio.wait_for(silent.read(), 5)
    assert bed.server.refused["too_slow"] == 2
    writer.close()
    other.close()


async def test_a_client_that_does_not_read(monkeypatch, bed):
    """S3: a client that takes a long answer slowly is cut at the end of its time."""
    monkeypatch.setattr(gate, "ANSWER_TIME", 0.5)
    bed.show(status(service("x" * 20_000_000)))
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", bed.port))
        sock.send(b"GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(10):
            while not bed.server.refused["too_slow"]:
                await asyncio.sleep(0.02)
        async with asyncio.timeout(10):
            while bed.server._gate.doors:
                await asyncio.sleep(0.02)


async def test_many_connections(monkeypatch, bed):
    """S3: more connections than there may be are told so, and when the others end there is room again."""
    monkeypatch.setattr(gate, "MOST", 5)
    held = [await asyncio.open_connection("127.0.0.1", bed.port) for _ in range(5)]
    await asyncio.sleep(0.05)
    code, _, _ = await bed.get("/healthz")
    assert code == 503
    assert bed.server.refused["too_many"] == 1
    for _, writer in held:
        writer.close()
    async with asyncio.timeout(5):
        while (await bed.get("/healthz"))[0] != 200:
            await asyncio.sleep(0.02)


async def test_the_stream(monkeypatch, bed):
    """A stream has the last events and then each new one, and says when there is a new snapshot."""
    bed.view.tell([{"at": 1.0, "text": "old"}])
    bed.show()
    reader, writer = await asyncio.open_connection("127.0.0.1", bed.port)
    writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"text/event-stream" in head
        await reader.readuntil(b'"old"')
        await reader.readuntil(b"event: status\ndata: 0")
        bed.view.tell([{"at": 2.0, "text": "line\nbreak"}])
        await reader.readuntil(b'"line\\nbreak"')
        bed.show()
        await reader.readuntil(b"event: status\ndata: 1")
    writer.close()
    async with asyncio.timeout(5):
        while bed.server._streams:
            bed.show()
            await asyncio.sleep(0.05)


async def test_more_streams_than_there_may_be(monkeypatch, bed):
    """S3: a stream too many is refused, and counted."""
    monkeypatch.setattr(server, "STREAMS", 1)
    _, writer = await asyncio.open_connection("127.0.0.1", bed.port)
    writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(5):
        while not bed.server._streams:
            await asyncio.sleep(0.01)
    assert (await bed.get("/events"))[0] == 503
    writer.close()


async def test_metrics_are_made_once_a_snapshot(monkeypatch, bed):
    """R8: metrics parse with the official parser; however many ask, they are made once a snapshot."""
    made = []
    real = server.rendered
    monkeypatch.setattr(server, "rendered", lambda *args: made.append(1) or real(*args))
    bed.show()
    bodies = await asyncio.gather(*(bed.get("/metrics") for _ in range(5)))
    assert len(made) == 1
    families = {family.name for family in text_string_to_metric_families(bodies[0][2])}
    assert "steelyard_backend_state" in families
    openmetrics = await bed.get("/metrics", "Accept: application/openmetrics-text; version=1.0.0")
    assert openmetrics[1]["Content-Type"].startswith("application/openmetrics-text")
    assert openmetrics[2].endswith("# EOF\n")


async def test_a_bug_ends_its_own_request_alone(bed):
    """A snapshot that nothing can be made of is an internal error of that request, and the server goes on."""
    bed.view.take(b"[]", b"{}")
    assert (await bed.get("/metrics"))[0] == 500
    assert (await bed.get("/healthz"))[0] == 200


async def test_another_set_of_sockets(bed):
    """A reload that moves the listener closes the old one and answers on the new one."""
    moved = socket.create_server(("127.0.0.1", 0))
    port = moved.getsockname()[1]
    await bed.server.serve([moved], ["127.0.0.0/8"])
    bed.port = port
    assert (await bed.get("/healthz"))[0] == 200
