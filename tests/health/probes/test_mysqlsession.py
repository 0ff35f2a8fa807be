"""Logins and bounds of a MySQL session against scripted servers: recorded MySQL 8, and hostile ones."""

import asyncio
import ssl
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from health.probes import OurFault, attempt_once, make, run_once
from health.spec import MysqlProbe
from tests.health import mysqlserver
from tests.health.databases import PASSWORD, Authority
from tests.health.mysqlserver import Mysql8, error, greeting, ok, packet, switch

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """Return the file with the probe's password."""
    path = tmp_path / "mysql.pw"
    path.write_text(f"{PASSWORD}\n")
    return str(path)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return a certificate authority."""
    return Authority(tmp_path_factory.mktemp("ca"))


def trusted(authority: Authority) -> ssl.SSLContext:
    """Return a server's TLS for db.example.net."""
    certificate, key = authority.certificate("db.example.net")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@pytest.mark.parametrize(
    ("cached", "first", "seen"),
    [
        (True, "caching_sha2_password", ["probe", "fast", "quit"]),
        (False, "caching_sha2_password", ["probe", "full", "encrypted", "quit"]),
        (True, "mysql_native_password", ["probe", "switched", "fast", "quit"]),
        (False, "mysql_native_password", ["probe", "switched", "full", "encrypted", "quit"]),
        (True, "sha256_password", ["probe", "switched", "fast", "quit"]),
    ],
)
async def test_caching_sha2(
    tcp_server, leftovers, tmp_path: Path, secret: str, cached: bool, first: str, seen: list[str]
) -> None:
    """H8: MySQL 8's caching_sha2_password without TLS, as recorded: cached, or by the key that we were given, never asked for."""
    server = Mysql8(PASSWORD, cached=cached, first=first)
    _, port = await tcp_server(server.talk)
    (tmp_path / "public_key.pem").write_bytes(server.public_key)
    leftovers.mark()
    keys = {} if cached else {"public_key_file": str(tmp_path / "public_key.pem")}
    outcome, lines = await run_once(MysqlProbe(user="probe", password_file=secret, **keys), "127.0.0.1", port)
    assert outcome.ok, lines
    await leftovers.check()
    assert server.seen == seen
    assert PASSWORD not in "\n".join(lines)


@pytest.mark.parametrize("first", ["caching_sha2_password", "mysql_native_password"])
@pytest.mark.parametrize("tls", [False, True])
async def test_no_password_for_an_impostor(
    tcp_server, leftovers, secret: str, authority: Authority, first: str, tls: bool
) -> None:
    """H8, S9: an unverified server gets no password, not even one encrypted with the server's own key or sent over its TLS."""
    impostor = Mysql8(PASSWORD, cached=False, first=first, tls=trusted(authority) if tls else None)
    _, port = await tcp_server(impostor.talk)
    leftovers.mark()
    keys = {"tls": "starttls", "tls_verify": False} if tls else {}
    probe = make(MysqlProbe(user="probe", password_file=secret, **keys))
    with pytest.raises(OurFault, match="wants the password itself, which needs verified TLS or public-key-file"):
        await attempt_once(probe, "127.0.0.1", port)
    await leftovers.check()
    assert impostor.seen[-1] == "full"
    assert impostor.refused == b"\0"  # no password, but no session that breaks off either: max_connect_errors


@pytest.mark.parametrize("content", ["", "no key\n", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
async def test_public_key_that_is_none(tcp_server, tmp_path: Path, secret: str, content: str) -> None:
    """H13: a public-key-file that holds no key is our fault, and says so; no other key is taken instead."""
    server = Mysql8(PASSWORD, cached=False)
    _, port = await tcp_server(server.talk)
    path = tmp_path / "key.pem"
    path.write_text(content)
    probe = make(MysqlProbe(user="probe", password_file=secret, public_key_file=str(path)))
    with pytest.raises(OurFault, match="is empty" if not content else "holds no RSA key in PEM form"):
        await attempt_once(probe, "127.0.0.1", port)
    assert "key" not in server.seen


@pytest.mark.parametrize("cached", [True, False])
async def test_caching_sha2_over_tls(tcp_server, leftovers, secret: str, authority: Authority, cached: bool) -> None:
    """H8: over TLS, which is verified, a full login sends the password itself and asks for no key."""
    server = Mysql8(PASSWORD, cached=cached, tls=trusted(authority))
    _, port = await tcp_server(server.talk)
    leftovers.mark()
    keys = {"tls": "starttls", "tls_name": "db.example.net", "tls_ca_file": str(authority.path)}
    outcome, lines = await run_once(MysqlProbe(user="probe", password_file=secret, **keys), "127.0.0.1", port)
    assert outcome.ok, lines
    await leftovers.check()
    assert server.seen == ["tls", "probe", "fast" if cached else "full", "quit"]


async def test_wrong_password(tcp_server, secret: str, authority: Authority) -> None:
    """H8, S6: a login that is refused says so, and nothing shows the password."""
    server = Mysql8("another", tls=trusted(authority))
    _, port = await tcp_server(server.talk)
    keys = {"tls": "starttls", "tls_name": "db.example.net", "tls_ca_file": str(authority.path)}
    outcome, lines = await run_once(MysqlProbe(user="probe", password_file=secret, **keys), "127.0.0.1", port)
    assert not outcome.ok
    assert outcome.credentials_rejected
    assert outcome.reason.startswith('login refused: access denied (1045: "Access denied for user ')
    assert PASSWORD not in "\n".join([outcome.reason, *lines])


async def test_tls_that_is_not_offered(tcp_server, secret: str) -> None:
    """H8, S9: where TLS is wanted and not offered, nothing is sent in clear."""
    server = Mysql8(PASSWORD)
    _, port = await tcp_server(server.talk)
    spec = MysqlProbe(user="probe", password_file=secret, tls="starttls")
    outcome, _ = await run_once(spec, "127.0.0.1", port)
    assert (outcome.ok, outcome.reason) == (False, "offers no TLS")
    assert server.seen == []


async def test_tls_with_another_name(tcp_server, leftovers, secret: str, authority: Authority) -> None:
    """H8, S9: a certificate for another name ends the login before the probe sends the user's name."""
    server = Mysql8(PASSWORD, tls=trusted(authority))
    _, port = await tcp_server(server.talk)
    leftovers.mark()
    keys = {"tls": "starttls", "tls_name": "x.example.net", "tls_ca_file": str(authority.path)}
    outcome, _ = await run_once(MysqlProbe(user="probe", password_file=secret, **keys), "127.0.0.1", port)
    assert (outcome.ok, outcome.reason) == (False, "certificate is for db.example.net, not x.example.net")
    await leftovers.check()
    assert server.seen == ["tls"]


async def test_password_is_its_bytes(tcp_server, tmp_path: Path, authority: Authority) -> None:
    """H8: a password is the bytes of its file, also those beyond Latin-1."""
    path = tmp_path / "pw"
    path.write_text("pässwörd €\n")
    server = Mysql8("pässwörd €", cached=False, tls=trusted(authority))
    _, port = await tcp_server(server.talk)
    keys = {"tls": "starttls", "tls_name": "db.example.net", "tls_ca_file": str(authority.path)}
    outcome, lines = await run_once(MysqlProbe(user="probe", password_file=str(path), **keys), "127.0.0.1", port)
    assert outcome.ok, lines


NATIVE_SWITCH = switch(2, "mysql_clear_password", b"")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            [greeting("mysql_clear_password"), NATIVE_SWITCH],
            "the server asks for the password in clear (mysql_clear_password): that needs verified TLS",
        ),
        ([greeting(), NATIVE_SWITCH], "the server asks for the password in clear (mysql_clear_password): that needs"),
        (
            [greeting(), switch(2, "dialog", b"\2Password: ")],
            "the server asks for the password in clear (dialog): that",
        ),
        ([greeting(), switch(2, "mysql_old_password")], "the server asks for the password as MySQL 4.0 did (mysql_old"),
        ([greeting(), packet(2, b"\xfe")], "the server asks for the password as MySQL 4.0 did: that is not safe"),
        ([greeting(), switch(2, "sha256_password")], "the server wants the password itself, which needs verified TLS"),
        ([greeting(), packet(2, b"\x01\x04")], "the server wants the password itself, which needs verified TLS"),
        (
            [greeting(), switch(2, "client_ed25519")],
            'the server asks for a password plugin that this probe lacks: "client_ed25519"',
        ),
    ],
)
async def test_no_password_for_the_asking(tcp_server, secret: str, said: list[bytes], reason: str) -> None:
    """S9, H8: a login method that the probe lacks, or that reveals the password, is our limit, and the server is not down."""
    heard = bytearray()

    async def talk(reader: Reader, writer: Writer) -> None:
        for one in said:
            writer.write(one)
            heard.extend(await reader.read(4096))
        heard.extend(await reader.read(4096))

    _, port = await tcp_server(talk)
    outcome, lines = await run_once(MysqlProbe(user="probe", password_file=secret), "127.0.0.1", port)
    assert not outcome.ok
    assert outcome.reason.startswith(f"could not probe: {reason}"), lines
    assert PASSWORD.encode() not in heard


async def play(reader: Reader, writer: Writer, *parts: bytes) -> None:
    """Send the parts, each after something was read, and wait for the end."""
    for part in parts:
        writer.write(part)
        await writer.drain()
        await reader.read(4096)
    await reader.read()


async def mute(reader: Reader, writer: Writer) -> None:
    await reader.read()


async def hang_up(reader: Reader, writer: Writer) -> None:
    writer.close()


async def half(reader: Reader, writer: Writer) -> None:
    writer.write(greeting()[:20])


async def after_greeting(reader: Reader, writer: Writer) -> None:
    writer.write(greeting())
    await reader.read(4096)


async def after_login(reader: Reader, writer: Writer) -> None:
    writer.write(greeting())
    await reader.read(4096)
    writer.write(ok(2))
    await reader.read(4096)


async def trickle(reader: Reader, writer: Writer) -> None:
    for letter in greeting():
        writer.write(bytes([letter]))
        await writer.drain()
        await asyncio.sleep(0.02)


async def large(reader: Reader, writer: Writer) -> None:
    writer.write(b"\xff\xff\xff\x00" + b"x" * 1_000_000)
    while True:
        writer.write(b"x" * 100_000)
        await writer.drain()


async def large_answer(reader: Reader, writer: Writer) -> None:
    writer.write(greeting())
    await reader.read(4096)
    writer.write(ok(2))
    await reader.read(4096)
    await large(reader, writer)


async def without_end(writer: Writer, first: int, payload: bytes) -> None:
    """Send packets for ever; all made before, for the server has its turns in the same loop."""
    block = b"".join(packet((first + at) % 256, payload) for at in range(2560))
    while True:
        writer.write(block)
        await writer.drain()


async def endless_rows(reader: Reader, writer: Writer) -> None:
    writer.write(greeting())
    await reader.read(4096)
    writer.write(ok(2))
    await reader.read(4096)
    result = mysqlserver.resultset([{"1": "1"}])
    head = result[: -len(packet(5, b"\xfe\0\0\2\0"))]
    writer.write(head)
    await without_end(writer, 5, b"\x011")


async def many_columns(reader: Reader, writer: Writer) -> None:
    writer.write(greeting())
    await reader.read(4096)
    writer.write(ok(2))
    await reader.read(4096)
    column = mysqlserver.resultset([{"1": "1"}])[9:].split(b"\x05\0\0\3")[0]
    writer.write(packet(1, b"\xfe" + b"\xff" * 8))
    await without_end(writer, 2, column)


async def smtp(reader: Reader, writer: Writer) -> None:
    writer.write(b"220 mail.example.net ESMTP\r\n")
    await reader.read()


async def tls_alert(reader: Reader, writer: Writer) -> None:
    writer.write(b"\x15\x03\x01\x00\x02\x02\x28")


async def garbage(reader: Reader, writer: Writer) -> None:
    writer.write(bytes(range(255, -1, -1)) * 4)
    await reader.read()


async def old_protocol(reader: Reader, writer: Writer) -> None:
    writer.write(packet(0, b"\x09" + b"3.20.1\0" + b"\0" * 40))
    await reader.read()


async def empty_packets(reader: Reader, writer: Writer) -> None:
    await play(reader, writer, greeting(), packet(2, b""))


async def local_file(reader: Reader, writer: Writer) -> None:
    await play(reader, writer, greeting(), ok(2), packet(1, b"\xfb/etc/passwd"))


async def wrong_order(reader: Reader, writer: Writer) -> None:
    await play(reader, writer, greeting(), ok(7))


async def wrong_version(reader: Reader, writer: Writer) -> None:
    writer.write(greeting().replace(b"8.0.20", b"eight."))
    await reader.read()


HOSTILE = [
    (mute, "no greeting within 0.3 s"),
    (hang_up, "closed by the server without a greeting"),
    (half, "closed by the server amid its greeting"),
    (after_greeting, "closed by the server before it had answered"),
    (after_login, "closed by the server before it had answered"),
    (trickle, "no greeting within 0.3 s"),
    (large, "announced a packet of 16777215 bytes, more than a probe reads"),
    (large_answer, "not understood: "),
    (endless_rows, "sends data without end: 1 MiB read"),
    (many_columns, "sends data without end: 1 MiB read"),
    (smtp, 'not MySQL: answered "220 mail.example.net ESMTP\\r\\n"'),
    (tls_alert, "closed by the server amid its greeting"),
    (garbage, "not understood: "),
    (old_protocol, "not MySQL: a greeting of protocol version 9, not 10"),
    (empty_packets, "malformed answer (IndexError)"),
    (local_file, "malformed answer (RuntimeError)"),
    (wrong_order, 'not understood: "Packet sequence number wrong - got 7 expected 2"'),
    (wrong_version, "malformed answer (ValueError)"),
]


@pytest.mark.parametrize(("talk", "reason"), HOSTILE, ids=[talk.__name__ for talk, _ in HOSTILE])
async def test_hostile_servers(tcp_server, leftovers, secret: str, talk: object, reason: str) -> None:
    """H4, H13, S9: whatever the server does, the probe ends by its timeout, tells why, and leaves nothing open."""
    _, port = await tcp_server(talk)
    leftovers.mark()
    begun = time.monotonic()
    outcome, lines = await run_once(MysqlProbe(user="probe", password_file=secret, timeout=0.3), "127.0.0.1", port)
    assert time.monotonic() - begun < 1.5
    assert not outcome.ok
    assert outcome.reason.startswith(reason), outcome.reason
    assert "\n".join(lines).replace("\n", "").isprintable()
    assert PASSWORD not in "\n".join(lines)
    await leftovers.check()


@pytest.mark.parametrize("talk", [large, endless_rows, many_columns])
async def test_memory(tcp_server, secret: str, octets: list[int], talk: object) -> None:
    """H4: a packet of 16 MB, or rows without end, cost no more than a few MiB, of which one at most is read."""
    _, port = await tcp_server(talk)
    spec = MysqlProbe(user="probe", password_file=secret, timeout=1.0)
    await run_once(spec, "127.0.0.1", port)  # what is imported and cached once
    octets.clear()
    tracemalloc.start()
    try:
        await run_once(spec, "127.0.0.1", port)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**20
    assert sum(octets) <= 2**20


async def test_others_get_their_turn(tcp_server, secret: str) -> None:
    """H5: a server that talks without end, in packets of a byte, holds the loop for no more than a moment at a time."""
    _, port = await tcp_server(endless_rows)
    await run_once(MysqlProbe(user="probe", timeout=1.0), "127.0.0.1", port)  # what is imported once
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()  # what this thread has spent, for others share the machine
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    watching = asyncio.ensure_future(watch())
    await run_once(MysqlProbe(user="probe", password_file=secret, timeout=1.0), "127.0.0.1", port)
    watching.cancel()
    assert longest < 0.1


@pytest.mark.parametrize("cached", [True, False])
async def test_cancelled_at_each_await(tcp_server, leftovers, cancelled_at, secret: str, cached: bool) -> None:
    """H4: cancelled at any of its waits, a run leaves no descriptor and no watched descriptor behind."""
    _, port = await tcp_server(Mysql8(PASSWORD, cached=cached).talk)
    leftovers.mark()
    spec = MysqlProbe(user="probe", password_file=secret, timeout=5, interval=5)
    steps = await cancelled_at(lambda: run_once(spec, "127.0.0.1", port), leftovers)
    assert steps >= 3 + cached  # the connect, the greeting, the login, the answer


async def test_cancelled_in_tls(tcp_server, leftovers, cancelled_at, secret: str, authority: Authority) -> None:
    """H4: cancelled at any wait of a TLS handshake and after, a run leaves nothing behind."""
    _, port = await tcp_server(Mysql8(PASSWORD, tls=trusted(authority)).talk)
    leftovers.mark()
    keys = {"tls": "starttls", "tls_name": "db.example.net", "tls_ca_file": str(authority.path)}
    spec = MysqlProbe(user="probe", password_file=secret, timeout=5, interval=5, **keys)
    assert await cancelled_at(lambda: run_once(spec, "127.0.0.1", port), leftovers) >= 5


def test_nothing_is_imported_later() -> None:
    """H8: the RSA of a full login is imported with the probe, for a process that later cannot read its libraries."""
    script = (
        "import sys; from health.probes import load_all; load_all(); before = set(sys.modules);"
        "from pymysql import _auth; from cryptography.hazmat.primitives.asymmetric import rsa;"
        "from cryptography.hazmat.primitives import serialization as s;"
        "key = rsa.generate_private_key(65537, 2048).public_key();"
        "pem = key.public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo);"
        "_auth.sha2_rsa_encrypt(b'x', b'y' * 20, pem);"
        "from health.probes import ldapmessage as m; m.csn_time(b'20261122184512.5Z#000000#001#000000');"
        "sys.exit(' '.join(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


async def test_greeting_is_an_error(tcp_server) -> None:
    """H8: an error instead of a greeting is read, without its state, which it then has not."""

    async def talk(reader: Reader, writer: Writer) -> None:
        writer.write(packet(0, b"\xff" + (1053).to_bytes(2, "little") + b"Server shutdown in progress"))

    _, port = await tcp_server(talk)
    outcome, _ = await run_once(MysqlProbe(user="probe"), "127.0.0.1", port)
    assert (outcome.ok, outcome.reason) == (False, "the server is shutting down (error 1053)")


async def test_repeated_password_is_masked(tcp_server, secret: str) -> None:
    """S6: a server that repeats our password in its error has it masked in reason and transcript."""

    async def talk(reader: Reader, writer: Writer) -> None:
        await play(reader, writer, greeting(), error(2, 1045, f"no: {PASSWORD}"))

    _, port = await tcp_server(talk)
    outcome, lines = await run_once(MysqlProbe(user="probe", password_file=secret), "127.0.0.1", port)
    assert outcome.reason == 'login refused: access denied (1045: "no: ****")'
    assert PASSWORD not in "\n".join(lines)


async def test_no_password_is_shown_as_none(tcp_server, secret: str) -> None:
    """A transcript has "****" for a password that there is, and says where there is none."""
    for keys, words in (({}, "without a password"), ({"password_file": secret}, "with a password ****")):
        _, port = await tcp_server(Mysql8(PASSWORD).talk)
        _, lines = await run_once(MysqlProbe(user="probe", **keys), "127.0.0.1", port)
        assert f'-> login as "probe" {words}' in lines
