"""The http probe against scripted servers on loopback: what nginx does not do."""

import asyncio
import hashlib

import pytest

from health.probes import run_once
from health.probes.base import Attempt
from health.probes.http import HttpCheck, host_name, statuses
from health.spec import HttpProbe

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nIt w\r\n4\r\norks\r\n0\r\n\r\n"
CLOSED = b"HTTP/1.0 200 OK\r\n\r\nIt works"
COUNTED = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nIt works"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
DIGEST = hashlib.md5(b"It works").hexdigest()


async def ask(tcp_server, said: bytes, **keys: object):
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        for at in range(0, len(said), 7):  # in small pieces
            writer.write(said[at : at + 7])
            await asyncio.sleep(0)

    _, port = await tcp_server(talk)
    outcome, lines = await run_once(HttpProbe(**keys), "127.0.0.1", port)
    return outcome, lines, heard[0], port


@pytest.mark.parametrize("said", [CHUNKED, CLOSED, COUNTED, EARLY + COUNTED])
async def test_bodies(tcp_server, leftovers, said: bytes) -> None:
    """H10: a body counts as a whole however it is framed, also across pieces, and its digest is that of the body alone."""
    leftovers.mark()
    outcome, _, _, _ = await ask(tcp_server, said, body="It works", body_digest=DIGEST)
    assert outcome.ok, outcome.reason
    outcome, _, _, _ = await ask(tcp_server, said, body="It works not")
    assert outcome.reason == 'answered 200, but its body lacks "It works not"'


async def test_full(tcp_server) -> None:
    """H10: 429 is a server without room: fit for reserve, and not dead; 401, 403 and 503 are failures."""
    outcome, _, _, _ = await ask(tcp_server, b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")
    assert (outcome.ok, outcome.reserve, outcome.full) == (True, True, True)
    assert outcome.reason == 'answered 429 "Too Many Requests", not 200-399'
    for status in (401, 403, 503):
        outcome, _, _, _ = await ask(tcp_server, b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)
        assert (outcome.ok, outcome.credentials_rejected) == (False, False)


async def test_request(tcp_server) -> None:
    """H10: the request names the host, asks for no compression, and says that it is the last one."""
    _, lines, heard, port = await ask(tcp_server, COUNTED, method="POST", path="/healthz?deep=1")
    head = f"POST /healthz?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: steelyard\r\nAccept: */*\r\n"
    assert heard == f"{head}Connection: close\r\nContent-Length: 0\r\n\r\n".encode()
    assert f"-> POST /healthz?deep=1 HTTP/1.1, Host: 127.0.0.1:{port}" in lines
    _, _, heard, _ = await ask(tcp_server, COUNTED, host="www.example.net")
    assert b"\r\nHost: www.example.net\r\n" in heard


@pytest.mark.parametrize(
    ("address", "port", "tls", "host"),
    [
        ("192.0.2.1", 80, "off", "192.0.2.1"),
        ("192.0.2.1", 443, "off", "192.0.2.1:443"),
        ("2001:db8::1", 443, "implicit", "[2001:db8::1]"),
        ("fe80::1%eth0", 8080, "off", "[fe80::1]:8080"),
    ],
)
async def test_host_of_an_address(address: str, port: int, tls: str, host: str) -> None:
    """H10: without a name the address is the host, in brackets for IPv6, without zone and without the usual port."""
    assert HttpCheck(HttpProbe(tls=tls))._authority(Attempt(address, port, 1.0)) == host


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "closed by the server without an answer"),
        (b"HTTP/1.1 200", "closed by the server in the middle of its answer"),
        (COUNTED[:-1], "closed by the server in the middle of its answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 'malformed answer: "bad Content-Length'),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 'malformed answer: "illegal chunk header'),
        (b"HTTQ/1.1 200 OK\r\n\r\n", 'not HTTP: answered "HTTQ/1.'),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nx", ""),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", ""),
    ],
)
async def test_bad_answers(tcp_server, leftovers, said: bytes, reason: str) -> None:
    """H13, S9: an answer that is not HTTP, or not whole, fails in words and leaves nothing open."""
    leftovers.mark()
    outcome, _, _, _ = await ask(tcp_server, said, body="It works")
    assert not outcome.ok
    assert outcome.reason.startswith(reason)
    assert "broke down" not in outcome.reason


def test_statuses() -> None:
    """H10: statuses are single ones and ranges, both ends included."""
    assert statuses("200-202, 304") == {200, 201, 202, 304}
    assert statuses("404") == {404}


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("www.example.net:8443", "www.example.net"),
        ("www.example.net", "www.example.net"),
        ("192.0.2.1:80", None),
        ("[2001:db8::1]:80", None),
        (None, None),
    ],
)
def test_host_name(host: str | None, name: str | None) -> None:
    """The name to expect in a certificate is the host's without its port; an address is none."""
    assert host_name(host) == name
