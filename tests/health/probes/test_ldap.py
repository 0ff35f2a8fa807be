"""The ldap probe against scripted servers: Active Directory as recorded, results in words, and hostile ones.

Sources: the bytes of Active Directory's answers are those of haproxy issue 1390 (bind) and testssl.sh pull request 2297
(StartTLS refused and granted), the texts those of vesse/passport-ldapauth issue 71 (000004DC) and of MS-ADTS, section 3.1.1.3.1.9
(80090308 with "data 52e"); OpenLDAP's are those of RFC 4511.
"""

import asyncio
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from health.probes import NotSupported, make, run_once
from health.probes import ldapmessage as wire
from health.spec import LdapProbe
from health.state import Outcome
from tests.health.databases import PASSWORD

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
BASE = "dc=example,dc=net"
TLS, BIND, SEARCH, CSN = 1, 2, 3, 4


def element(tag: int, *parts: bytes, long: bool = False) -> bytes:
    """Return a BER element, with `long` in the form of Active Directory."""
    data = b"".join(parts)
    size = len(data)
    if long:
        return bytes([tag]) + b"\x84" + size.to_bytes(4, "big") + data
    return bytes([tag]) + (bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")) + data


def result(ident: int, tag: int, code: int, text: str = "", *rest: bytes, long: bool = False) -> bytes:
    """Return a message with a result."""
    inner = element(0x0A, bytes([code])) + element(4) + element(4, text.encode(), long=long and bool(text))
    return element(0x30, element(2, bytes([ident])), element(tag, inner, *rest, long=long), long=long)


def bound(code: int = 0, text: str = "", *rest: bytes, long: bool = False) -> bytes:
    """Return the answer to a bind."""
    return result(BIND, 0x61, code, text, *rest, long=long)


def done(code: int = 0, text: str = "", *rest: bytes, ident: int = SEARCH, long: bool = False) -> bytes:
    """Return the end of a search."""
    return result(ident, 0x65, code, text, *rest, long=long)


def entry(dn: str = BASE, *csn: bytes, ident: int = SEARCH, long: bool = False) -> bytes:
    """Return an entry, with contextCSN if told."""
    held = element(0x30, element(4, b"contextCSN"), element(0x31, *(element(4, one) for one in csn))) if csn else b""
    found = element(0x64, element(4, dn.encode()), element(0x30, held, long=long), long=long)
    return element(0x30, element(2, bytes([ident])), found, long=long)


def reference(uri: str) -> bytes:
    """Return a reference to another server instead of an entry."""
    return element(0x30, element(2, bytes([SEARCH])), element(0x73, element(4, uri.encode())))


def plays(*answers: bytes) -> Callable[[Reader, Writer], object]:
    """Return a server that gives one of the answers to each message, and notes what it heard in `heard`."""

    async def talk(reader: Reader, writer: Writer) -> None:
        for answer in answers:
            talk.heard.append(await reader.read(4096))
            writer.write(answer)
        talk.heard.append(await reader.read(4096))

    talk.heard = []
    return talk


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """Return the file with the password."""
    path = tmp_path / "ldap.pw"
    path.write_text(f"{PASSWORD}\n")
    return str(path)


@pytest.fixture
async def ask(tcp_server):
    """Return a function that runs one probe against a server that plays these answers."""

    async def run(*answers: bytes, **keys: object) -> tuple[Outcome, list[str], list[bytes]]:
        talk = plays(*answers)
        server, port = await tcp_server(talk)
        outcome, lines = await run_once(LdapProbe(**keys), "127.0.0.1", port)
        for _ in range(100):
            if len(talk.heard) > len(answers) or not server.accepted:
                break
            await asyncio.sleep(0.01)
        assert all(line.isprintable() for line in lines)
        return outcome, lines, talk.heard

    return run


async def test_bind_only(ask) -> None:
    """H9: without a base the probe binds anonymously and takes its leave with an unbind."""
    outcome, _, heard = await ask(bound())
    assert outcome.ok
    assert outcome.reason.startswith("bound anonymously in ")
    assert heard == [wire.bind(BIND), wire.unbind(5)]


async def test_simple_bind(ask, secret: str) -> None:
    """H9, S6: with bind-dn name and password are sent, and the password is in no transcript."""
    outcome, lines, heard = await ask(bound(), bind_dn=f"cn=probe,{BASE}", password_file=secret)
    assert outcome.ok
    assert heard[0] == wire.bind(BIND, f"cn=probe,{BASE}", PASSWORD.encode())
    assert f'-> bind as "cn=probe,{BASE}" with a password ****' in lines
    assert PASSWORD not in "\n".join(lines)


async def test_empty_password(ask, tmp_path: Path) -> None:
    """H9: an empty password file is our fault: the server would take such a bind for an anonymous one (RFC 4513, 5.1.2)."""
    path = tmp_path / "pw"
    path.write_text("\n")
    outcome, _, _ = await ask(bound(), bind_dn=f"cn=probe,{BASE}", password_file=str(path))
    assert outcome.reason == f"could not probe: password file {path} is empty"


@pytest.mark.parametrize(
    ("said", "keys", "ok", "reason"),
    [
        ([entry(), done()], {}, True, "bound anonymously, 1 entry found in "),
        ([done()], {}, True, "bound anonymously, 0 entries found in "),
        ([done()], {"min_entries": 1}, False, "found 0 of 1 entry wanted"),
        ([entry(), entry(), done(4)], {"min_entries": 2}, True, "bound anonymously, 2 entries found in "),
        ([entry(), entry(), done()], {"min_entries": 3}, False, "found 2 of 3 entries wanted"),
        (
            [entry(), reference("ldap://192.0.2.7/"), done()],
            {"min_entries": 2},
            False,
            "found 1 of 2 entries wanted, and 1 reference to other servers",
        ),
        ([done(4)], {}, False, "the search was refused: size limit exceeded (result 4)"),
        ([done(32)], {}, False, "the search was refused: no such entry (result 32)"),
        ([done(53)], {}, False, "the search was refused: unwilling to perform this (result 53)"),
        ([done(52)], {}, False, "the search was refused: unavailable (result 52)"),
        ([done(99)], {}, False, "the search was refused: an error (result 99)"),
        (
            [done(10, "", element(0xA3, element(4, b"ldap://192.0.2.7/")))],
            {},
            False,
            'the search was answered with a referral to "ldap://192.0.2.7/", which is not followed',
        ),
        ([entry()[:-1]], {}, False, "the answer to the search did not come within 0.5 s, only "),
        ([bound()], {}, False, "answered to message 2, not to 3"),
        ([result(SEARCH, 0x61, 0)], {}, False, "answered with a message of another kind"),
        ([result(0, 0x78, 52, "bye")], {}, False, 'closed by the server: unavailable (result 52: "bye")'),
    ],
)
async def test_search(ask, said: list[bytes], keys: dict[str, object], ok: bool, reason: str) -> None:
    """H9, H13: what a search finds is counted, references are not followed, and each refusal has its words."""
    outcome, lines, _ = await ask(bound(), b"".join(said), base=BASE, timeout=0.5, **keys)
    assert outcome.reason.startswith(reason), lines
    assert outcome.ok == ok
    assert not outcome.credentials_rejected


@pytest.mark.parametrize(
    ("answer", "reason", "rejected"),
    [
        (bound(49), "the bind was refused: wrong name or password (result 49)", True),
        (bound(48), "the bind was refused: does not allow this kind of bind", True),
        (bound(50), "the bind was refused: not allowed (insufficient access rights)", True),
        (bound(52), "the bind was refused: unavailable (result 52)", False),
        (
            bound(10, "", element(0xA3, element(4, b"ldap://192.0.2.7/"))),
            'the bind was answered with a referral to "ldap://192.0.2.7/", which is not followed',
            False,
        ),
        (
            bound(
                49, "80090308: LdapErr: DSID-0C090447, comment: AcceptSecurityContext error, data 52e, v3839", long=True
            ),
            "the bind was refused: wrong name or password (result 49: ",
            True,
        ),
        (
            bound(
                49, "80090308: LdapErr: DSID-0C090447, comment: AcceptSecurityContext error, data 775, v3839", long=True
            ),
            "the bind was refused: the account is locked (result 49: ",
            True,
        ),
        (
            bound(
                49, "80090308: LdapErr: DSID-0C090447, comment: AcceptSecurityContext error, data 532, v3839", long=True
            ),
            "the bind was refused: the password has expired (result 49: ",
            True,
        ),
    ],
)
async def test_bind_that_is_refused(ask, secret: str, answer: bytes, reason: str, rejected: bool) -> None:
    """H9, H13: wrong credentials are told from all other refusals, also in Active Directory's numbers, and say goodbye."""
    outcome, _, heard = await ask(answer, bind_dn="probe@example.net", password_file=secret)
    assert not outcome.ok
    assert outcome.reason.startswith(reason)
    assert outcome.credentials_rejected == rejected
    assert heard[-1] == wire.unbind(5)


@pytest.mark.parametrize(
    ("answers", "named", "reason"),
    [
        ([bound(7)], True, "the bind was refused: authentication method not supported (result 7)"),
        ([bound(8)], True, "the bind was refused: requires stronger authentication: TLS or signing (result 8)"),
        ([bound(13, "confidentiality required")], True, "the bind was refused: requires TLS first"),
        ([bound(34)], True, "the bind was refused: not a DN (result 34)"),
        ([bound(53, "unauthenticated bind")], True, "the bind was refused: unwilling to perform this (result 53"),
        ([bound(48, "anonymous bind disallowed")], False, "the bind was refused: does not allow this kind of bind"),
        ([bound(49)], False, "the bind was refused: wrong name or password (result 49)"),
        ([bound(), done(50)], False, "the search was refused: not allowed (insufficient access rights)"),
        (
            [bound(), done(8, "authentication required")],
            False,
            "the search was refused: requires stronger authentication",
        ),
        (
            [bound(), done(13)],
            True,
            "the search was refused: requires TLS first (confidentiality required) (result 13)",
        ),
        ([bound(), done(11)], True, "the search was refused: an administrative limit exceeded (result 11)"),
    ],
)
async def test_our_own_limits(ask, secret: str, answers: list[bytes], named: bool, reason: str) -> None:
    """H9: a server that refuses the form of the request is not down: the run does not count, and it ends with an unbind."""
    keys = {"bind_dn": "probe@example.net", "password_file": secret} if named else {}
    outcome, _, heard = await ask(*answers, base=BASE, **keys)
    assert (outcome.ok, outcome.credentials_rejected) == (False, False)
    assert outcome.reason.startswith(f"could not probe: {reason}")
    assert heard[-1] == wire.unbind(5)


@pytest.mark.parametrize("answers", [[bound(51)], [bound(), done(51)]])
async def test_busy(ask, answers: list[bytes]) -> None:
    """H9: a server that is too busy for us is full: fit for reserve, and not dead."""
    outcome, _, heard = await ask(*answers, base=BASE)
    assert (outcome.ok, outcome.reserve, outcome.full) == (True, True, True)
    assert outcome.reason.endswith("was refused: busy (result 51)")
    assert heard[-1] == wire.unbind(5)


async def test_active_directory(ask, secret: str) -> None:
    """H9: Active Directory's answers, their lengths in four octets, pass; nothing depends on a schema."""
    answers = entry(long=True) + reference("ldap://DomainDnsZones.example.net/") + done(long=True)
    spec = {"bind_dn": "probe@example.net", "password_file": secret, "base": BASE, "filter": "(objectClass=domain)"}
    outcome, lines, _ = await ask(bound(long=True), answers, min_entries=1, **spec)
    assert outcome.ok, lines
    assert '<- reference to "ldap://DomainDnsZones.example.net/", not followed' in lines


async def test_active_directory_anonymously(ask) -> None:
    """H9, H13: Active Directory lets anybody bind but not search, and the reason says what to do."""
    said = (
        "000004DC: LdapErr: DSID-0C0907C2, comment: In order to perform this operation a successful bind must be "
        "completed on the connection., data 0, v2580\0"
    )
    outcome, _, _ = await ask(bound(long=True), done(1, said, long=True), base=BASE)
    assert not outcome.ok
    assert not outcome.credentials_rejected
    assert outcome.reason == (
        "could not probe: the search needs a bind: Active Directory allows no anonymous search, so set bind-dn"
    )


async def test_active_directory_without_tls(ask) -> None:
    """H9: a domain controller without a certificate refuses StartTLS with 52, and the reason quotes its text."""
    said = "00000000: LdapErr: DSID-0C090F78, comment: Error initializing SSL/TLS"
    outcome, _, heard = await ask(result(TLS, 0x78, 52, said, long=True), tls="starttls")
    assert not outcome.ok
    assert outcome.reason.startswith('StartTLS was refused: unavailable (result 52: "00000000: LdapErr: ')
    assert heard[0] == wire.start_tls(TLS)


async def test_clear_text_behind_start_tls(ask) -> None:
    """H9, S9: what follows the consent to StartTLS in clear text is anybody's, and fails."""
    outcome, _, _ = await ask(result(TLS, 0x78, 0) + bound(), tls="starttls")
    assert not outcome.ok
    assert outcome.reason.startswith("sent clear text after it had agreed to TLS")


@pytest.mark.parametrize("keys", [{}, {"min_entries": 2}])
async def test_context_csn(ask, keys: dict[str, object]) -> None:
    """H9: with max-lag the newest change of all writers is what the backends are compared by."""
    csns = [b"20261122184512.500000Z#000000#001#000000", b"20261122184513.250000Z#000000#002#000000"]
    answers = [entry(BASE, *csns) + done()]
    if keys:
        answers = [entry() + entry() + done(), entry(BASE, *csns, ident=CSN) + done(ident=CSN)]
    outcome, lines, heard = await ask(bound(), *answers, base=BASE, max_lag=60, **keys)
    assert outcome.ok, lines
    assert outcome.value == 1795373113.25
    assert b"contextCSN" in heard[len(answers)]


@pytest.mark.parametrize(
    ("csns", "reason"),
    [([], "no contextCSN at the base"), ([b"yesterday"], "its contextCSN is not a time with its counters")],
)
async def test_no_context_csn(ask, csns: list[bytes], reason: str) -> None:
    """H9, H13: a base without a readable contextCSN cannot be compared, and fails in words."""
    outcome, _, _ = await ask(bound(), entry(BASE, *csns) + done(), base=BASE, max_lag=60)
    assert not outcome.ok
    assert outcome.reason.startswith(reason)


def test_filter_that_is_none() -> None:
    """H9: a filter that is none is refused when the probe is made, not when it runs."""
    with pytest.raises(NotSupported, match="is not an LDAP filter"):
        make(LdapProbe(base=BASE, filter="(uid)"))


async def test_repeated_password_is_masked(ask, secret: str) -> None:
    """S6: a server that repeats our password in its text or an entry has it masked everywhere."""
    keys = {"bind_dn": "cn=probe", "password_file": secret, "base": BASE}
    outcome, lines, _ = await ask(bound(49, f"no {PASSWORD}"), **keys)
    assert '"no ****"' in outcome.reason
    found, more, _ = await ask(bound(), entry(f"cn={PASSWORD}") + done(53, PASSWORD), **keys)
    assert PASSWORD not in "\n".join([outcome.reason, found.reason, *lines, *more])


async def mute(reader: Reader, writer: Writer) -> None:
    await reader.read()


async def hang_up(reader: Reader, writer: Writer) -> None:
    writer.close()


async def after_bind(reader: Reader, writer: Writer) -> None:
    await reader.read(100)
    writer.write(bound())
    await reader.read(100)


async def half(reader: Reader, writer: Writer) -> None:
    await reader.read(100)
    writer.write(bound()[:7])


async def trickle(reader: Reader, writer: Writer) -> None:
    for letter in bound(0, "x" * 100):
        writer.write(bytes([letter]))
        await writer.drain()
        await asyncio.sleep(0.02)


async def large(reader: Reader, writer: Writer) -> None:
    writer.write(b"\x30\x84\x01\x00\x00\x00" + b"x" * 100_000)
    await reader.read()


async def endless(reader: Reader, writer: Writer) -> None:
    await reader.read(100)
    writer.write(bound())
    block = entry() * 500
    while True:
        writer.write(block)
        await writer.drain()


async def endless_asides(reader: Reader, writer: Writer) -> None:
    await reader.read(100)
    writer.write(bound())
    block = element(0x30, b"\2\1\3", element(0x79)) * 500
    while True:
        writer.write(block)
        await writer.drain()


async def smtp(reader: Reader, writer: Writer) -> None:
    writer.write(b"220 mail.example.net ESMTP\r\n")
    await reader.read()


async def tls_alert(reader: Reader, writer: Writer) -> None:
    writer.write(b"\x15\x03\x01\x00\x02\x02\x28")
    await reader.read()


async def garbage(reader: Reader, writer: Writer) -> None:
    writer.write(b"\x30\x10" + bytes(range(16)))
    await reader.read()


async def slow_integer(reader: Reader, writer: Writer) -> None:
    writer.write(element(0x30, b"\2\x82\x3f\x00" + b"\xff" * 0x3F00))
    await reader.read()


HOSTILE = [
    (mute, "the answer to the bind did not come within 0.3 s"),
    (hang_up, ("closed by the server", "connection reset")),
    (after_bind, "closed by the server"),
    (half, 'closed by the server after "0'),
    (trickle, "the answer to the bind did not come within 0.3 s, only "),
    (large, "announced a message of 16777222 bytes, more than a probe reads"),
    (endless, "sends data without end: 64 KiB read, with "),
    (endless_asides, "sends data without end: 64 KiB read, with 0 of 0 entries"),
    (smtp, 'not LDAP: answered "220 mail.example.net ESMTP\\r\\n"'),
    (tls_alert, "not LDAP: answered "),
    (garbage, "malformed answer "),
    (slow_integer, "malformed answer "),
]


@pytest.mark.parametrize("tls", ["off", "starttls", "implicit"])
@pytest.mark.parametrize(("talk", "reason"), HOSTILE, ids=[talk.__name__ for talk, _ in HOSTILE])
async def test_hostile_servers(tcp_server, leftovers, talk: object, reason: str, tls: str) -> None:
    """H4, H13, S9: whatever the server does, the probe ends by its timeout, tells why, and leaves no thread or descriptor."""
    _, port = await tcp_server(talk)
    leftovers.mark()
    threads = threading.active_count()
    begun = time.monotonic()
    timeout = 2.0 if talk in (endless, endless_asides) else 0.3  # 64 KiB take their time where the machine is busy
    outcome, lines = await run_once(LdapProbe(base=BASE, timeout=timeout, tls=tls, tls_verify=False), "127.0.0.1", port)
    assert time.monotonic() - begun < timeout + 1.2
    assert not outcome.ok
    assert tls != "off" or outcome.reason.startswith(reason), outcome.reason
    assert all(line.isprintable() for line in lines)
    assert threading.active_count() == threads
    await leftovers.check()


@pytest.mark.parametrize("talk", [large, endless, endless_asides])
async def test_memory(tcp_server, talk: object) -> None:
    """H4: a message of 16 MB, or entries without end, cost less than a MiB or two."""
    _, port = await tcp_server(talk)
    await run_once(LdapProbe(base=BASE), "127.0.0.1", port)  # what is imported and cached once
    tracemalloc.start()
    try:
        await run_once(LdapProbe(base=BASE), "127.0.0.1", port)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20


async def test_hundreds_of_mute_servers_delay_no_other(tcp_server, leftovers) -> None:
    """H5: three hundred runs that hang at the same time keep neither a thread nor another run waiting."""
    _, port = await tcp_server(plays(bound()))
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as silent:  # the kernel accepts, nobody answers
        leftovers.mark()
        threads = threading.active_count()
        address = silent.getsockname()
        hanging = [asyncio.ensure_future(run_once(LdapProbe(), *address)) for _ in range(300)]
        await asyncio.sleep(0.5)
        outcome, _ = await run_once(LdapProbe(), "127.0.0.1", port)
        assert outcome.ok
        assert outcome.latency < 0.3
        assert threading.active_count() == threads
        found = await asyncio.gather(*hanging)
        assert {outcome.reason for outcome, _ in found} == {"the answer to the bind did not come within 1 s"}
        await leftovers.check()


async def test_cancelled_at_each_await(tcp_server, leftovers, cancelled_at) -> None:
    """H4: cancelled at any of its waits, a run leaves no descriptor and no watched descriptor behind."""

    async def talk(reader: Reader, writer: Writer) -> None:
        for answer in (bound(), entry() + done()):
            await reader.read(4096)
            writer.write(answer)
        await reader.read(4096)

    _, port = await tcp_server(talk)
    leftovers.mark()
    spec = LdapProbe(base=BASE, timeout=5, interval=5)
    steps = await cancelled_at(lambda: run_once(spec, "127.0.0.1", port), leftovers)
    assert steps == 3  # the connect, the bind, the search
