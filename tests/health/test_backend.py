"""Backends that know of each other: logins, serials, weights, and what outlives the process; with real servers."""

import asyncio
import os
import random
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import dns.message
import dns.rrset
import pytest

from health.monitor import Monitor, Target, Verdict
from health.secrets import Secrets
from health.services import Alarm
from health.spec import DnsProbe, Pop3Probe, ScriptProbe, SmtpProbe, TcpProbe
from tests.health.hostile import in_tls
from tests.health.launch import needed
from tests.health.pki import Authority

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter

QUICK = {"interval": 0.05, "fast_interval": 0.03, "down_interval": 0.05, "timeout": 0.05}
FILE = "/etc/steelyard/pop3.pw"
LOGIN = Pop3Probe(user="probe", password_file=FILE, **QUICK)
SOA = DnsProbe(query="example.net SOA", max_serial_lag=10, transport="udp", **QUICK)


class Watched:
    """A monitor that was handed a password, its verdicts and its alarms."""

    def __init__(self) -> None:
        self.verdicts: asyncio.Queue[Verdict] = asyncio.Queue()
        self.alarms: asyncio.Queue[Alarm] = asyncio.Queue()
        self.secrets = Secrets()
        self.secrets.update({FILE: b"right\n"})
        self.monitor = Monitor(
            self.verdicts.put_nowait, rng=random.Random(1), on_alarm=self.alarms.put_nowait, secrets=self.secrets
        )

    async def next(self) -> Verdict:
        """Return the next verdict."""
        return await asyncio.wait_for(self.verdicts.get(), 10)

    async def alarm(self) -> Alarm:
        """Return the next alarm."""
        return await asyncio.wait_for(self.alarms.get(), 10)

    def states(self) -> list[str]:
        """Return all states."""
        return [state for state, _ in self.monitor.states().values()]


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    made = Watched()
    yield made
    await made.monitor.close()


class Mailbox:
    """A POP3 server that takes one password."""

    def __init__(self) -> None:
        self.password = "right"
        self.logins = 0

    async def talk(self, reader: Reader, writer: Writer) -> None:
        """Serve one client."""
        writer.write(b"+OK\r\n")
        while line := await reader.readline():
            word, _, rest = line.decode().strip().partition(" ")
            self.logins += word == "PASS"
            writer.write(b"-ERR [AUTH] no\r\n" if word == "PASS" and rest != self.password else b"+OK\r\n")


def mail(key: str, port: int, service: str = "mail", **keys: object) -> Target:
    return Target(key, "127.0.0.1", port, (LOGIN,), service=service, name=key, **keys)


async def passed(mailbox: Mailbox, runs: int) -> None:
    """Wait until so many more logins were tried."""
    until = mailbox.logins + runs
    while mailbox.logins < until:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)


async def test_all_refuse_the_login(watched: Watched, tcp_server) -> None:
    """H8: when all backends refuse the login no verdict changes, one alarm a service is raised, and a login ends it."""
    boxes = [Mailbox(), Mailbox()]
    ports = [(await tcp_server(box.talk))[1] for box in boxes]
    watched.monitor.watch([mail("a", ports[0]), mail("b", ports[1])])
    assert {(await watched.next()).state for _ in range(2)} == {"up"}
    for box in boxes:
        box.password = "changed"
    alarm = await watched.alarm()
    assert (alarm.service, alarm.active) == ("mail", True)
    assert alarm.text.startswith("every backend refuses the pop3 login of probe (")
    await passed(boxes[0], 8)
    assert watched.states() == ["up", "up"]
    assert watched.verdicts.empty()
    assert watched.alarms.empty()
    watched.secrets.update({FILE: b"changed\n"})
    assert not (await watched.alarm()).active
    await passed(boxes[0], 3)
    assert watched.states() == ["up", "up"]


async def test_wrong_password_at_the_start(watched: Watched, tcp_server) -> None:
    """H1, H8: with a wrong password from the start no backend is up or down: all are reported as unjudged, with the reason."""
    boxes = [Mailbox(), Mailbox()]
    for box in boxes:
        box.password = "another"
    ports = [(await tcp_server(box.talk))[1] for box in boxes]
    watched.monitor.watch([mail("a", ports[0]), mail("b", ports[1])])
    assert (await watched.alarm()).active
    verdicts = [await watched.next() for _ in range(2)]
    assert {verdict.key for verdict in verdicts} == {"a", "b"}
    for verdict in verdicts:
        assert (verdict.state, verdict.unjudged) == ("unknown", True)
        assert verdict.reason == 'login refused: the answer to PASS was "-ERR [AUTH] no"'
    await passed(boxes[0], 5)
    assert watched.states() == ["unknown", "unknown"]
    assert watched.verdicts.empty()
    watched.secrets.update({FILE: b"another\n"})
    verdicts = [await watched.next() for _ in range(2)]
    assert {(verdict.key, verdict.state, verdict.unjudged) for verdict in verdicts} == {
        ("a", "up", False), ("b", "up", False),
    }  # fmt: skip


async def test_refused_where_another_lets_in(watched: Watched, tcp_server) -> None:
    """H1, H8: at the start a backend that refuses a login is never unjudged where another one takes it."""
    boxes = [Mailbox(), Mailbox()]
    boxes[0].password = "another"
    ports = [(await tcp_server(box.talk))[1] for box in boxes]
    watched.monitor.watch([mail("a", ports[0]), mail("b", ports[1])])
    verdicts = [await watched.next() for _ in range(2)]
    assert {(verdict.key, verdict.state) for verdict in verdicts} == {("a", "down"), ("b", "up")}
    assert watched.alarms.empty()


async def test_missing_password_at_the_start(watched: Watched, tcp_server) -> None:
    """H8, H13: without its password a probe finds nothing out: the backend is unjudged, and one alarm says why, and its end."""
    box = Mailbox()
    _, port = await tcp_server(box.talk)
    watched.secrets.update({})
    watched.monitor.watch([mail("a", port), mail("b", port)])
    why = f"could not probe: password file {FILE} was not passed to the health process"
    verdicts = [await watched.next() for _ in range(2)]
    assert {verdict.key for verdict in verdicts} == {"a", "b"}
    for verdict in verdicts:
        assert (verdict.state, verdict.unjudged, verdict.reason) == ("unknown", True, why)
    alarm = await watched.alarm()
    assert alarm.active
    assert alarm.text.startswith("the pop3 probe cannot judge ")
    assert alarm.text.endswith(f": {why}: its verdict does not change")
    watched.secrets.update({FILE: b"right\n"})
    assert {(await watched.next()).state for _ in range(2)} == {"up"}
    assert not (await watched.alarm()).active
    assert watched.alarms.empty()


async def test_a_dead_probe_beside_a_refused_login(watched: Watched, tcp_server) -> None:
    """H8, H15: where something else is wrong than our own credentials, a backend is not unjudged but down."""
    box = Mailbox()
    box.password = "another"
    _, port = await tcp_server(box.talk)
    watched.monitor.watch([Target("a", "127.0.0.1", port, (LOGIN, TcpProbe(port=1, **QUICK)), service="mail")])
    assert (await watched.next()).state == "down"
    await passed(box, 3)
    assert watched.verdicts.empty()


async def test_full(watched: Watched, tcp_server) -> None:
    """H8: a server that is full goes to reserve, never down, and is up again when it has room."""
    greeting = b"220 x\r\n"

    async def talk(reader: Reader, writer: Writer) -> None:
        writer.write(greeting)
        while line := await reader.readline():
            writer.write(b"221 x\r\n" if line == b"QUIT\r\n" else b"250 x\r\n")

    _, port = await tcp_server(talk)
    watched.monitor.watch([Target("a", "127.0.0.1", port, (SmtpProbe(**QUICK),), service="mail")])
    assert (await watched.next()).state == "up"
    greeting = b"421 too many connections\r\n"
    verdict = await watched.next()
    assert (verdict.state, verdict.reason) == (
        "reserve",
        'the greeting was "421 too many connections", not 220 (3 times in a row)',
    )
    greeting = b"220 x\r\n"
    assert (await watched.next()).state == "up"


async def test_a_new_password_is_tried_at_once(watched: Watched, tcp_server) -> None:
    """H12: a password that changed is tried soon, not after an interval of an hour."""
    box = Mailbox()
    _, port = await tcp_server(box.talk)
    spec = LOGIN.model_copy(update={"interval": 3600.0, "timeout": 1.0})
    watched.monitor.watch([Target("a", "127.0.0.1", port, (spec, TcpProbe(interval=3600.0)), service="mail")])
    await watched.next()
    assert box.logins == 1
    watched.monitor.secrets_changed(watched.secrets.update({FILE: b"right"}))
    await asyncio.wait_for(passed(box, 1), 10)


async def test_services_share_the_run_and_not_the_alarm(watched: Watched, tcp_server) -> None:
    """H11, H8: two services with one backend and one account cost one login, and each has its own alarm."""
    box = Mailbox()
    box.password = "another"
    _, port = await tcp_server(box.talk)
    once = LOGIN.model_copy(update={"interval": 3600.0, "fast_interval": 3600.0, "timeout": 1.0})
    watched.monitor.watch(
        [Target(f"{name}/a", "127.0.0.1", port, (once,), service=name) for name in ("pop3", "submission")]
    )
    assert {(await watched.alarm()).service for _ in range(2)} == {"pop3", "submission"}
    assert box.logins == 1


class Zone:
    """A DNS server's zone."""

    serial = 100
    dead = False

    def answer(self, data: bytes) -> list[bytes]:
        """Answer a query for the SOA record."""
        if self.dead:
            return []
        reply = dns.message.make_response(dns.message.from_wire(data))
        soa = f"ns.example.net. root.example.net. {self.serial} 1 1 1 1"
        reply.answer.append(dns.rrset.from_text("example.net.", 60, "IN", "SOA", soa))
        return [reply.to_wire()]


async def two_zones(
    watched: Watched, udp_server, services: tuple[str, str] = ("dns", "dns")
) -> tuple[list[Zone], list]:
    zones = [Zone(), Zone()]
    servers = [await udp_server(zone.answer) for zone in zones]
    watched.monitor.watch(
        [
            Target(f"ns{at}", "127.0.0.1", port, (SOA,), service=services[at], name=f"ns{at}")
            for at, (_, port) in enumerate(servers)
        ]
    )
    assert {(await watched.next()).state for _ in range(2)} == {"up"}
    return zones, [server for server, _ in servers]


async def test_old_zone(watched: Watched, udp_server) -> None:
    """H7, H13: a backend with an old zone goes down after `fall` results, the report says why, and it returns with the zone."""
    zones, _ = await two_zones(watched, udp_server)
    zones[1].serial = 111
    verdict = await watched.next()
    assert (verdict.key, verdict.state) == ("ns0", "down")
    assert verdict.reason == "serial 100 is 11 behind ns1's 111, over max-serial-lag (10) (3 failures in a row)"
    (row,) = watched.monitor.report()["ns0"]
    assert (row["ok"], row["reason"]) == (False, "serial 100 is 11 behind ns1's 111, over max-serial-lag (10)")
    zones[0].serial = 111
    assert (await watched.next()).state == "up"


async def test_other_services_are_no_measure(watched: Watched, udp_server) -> None:
    """H7: a backend is compared with those of its own service only."""
    zones, servers = await two_zones(watched, udp_server, ("dns", "internal"))
    zones[1].serial = 1000
    before = servers[0].received
    while servers[0].received < before + 10:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)
    assert watched.states() == ["up", "up"]


async def test_the_dead_are_no_measure(watched: Watched, udp_server) -> None:
    """H7: the newer zone of a dead server takes no backend down; the backends that it took down come back."""
    zones, _ = await two_zones(watched, udp_server)
    zones[1].serial = 111
    assert (await watched.next()).key == "ns0"
    zones[1].dead = True
    changes = [await watched.next() for _ in range(2)]
    assert [(change.key, change.state) for change in changes] == [("ns1", "down"), ("ns0", "up")]


async def test_who_is_down_for_another_reason_is_no_measure(watched: Watched, udp_server) -> None:
    """H7, H15: the newer zone of a server whose other probe fails takes no backend down, because that server gets no clients."""
    zones = [Zone(), Zone()]
    zones[1].serial = 111
    servers = [await udp_server(zone.answer) for zone in zones]
    dead = TcpProbe(port=1, interval=3600.0, fast_interval=3600.0)
    watched.monitor.watch(
        [
            Target("ns1", "127.0.0.1", servers[1][1], (dead, SOA), service="dns", name="ns1"),
            Target("ns0", "127.0.0.1", servers[0][1], (SOA,), service="dns", name="ns0"),
        ]
    )
    assert {((verdict := await watched.next()).key, verdict.state) for _ in range(2)} == {
        ("ns1", "down"),
        ("ns0", "up"),
    }
    before = servers[0][0].received
    while servers[0][0].received < before + 10:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)
    assert watched.states() == ["down", "up"]


async def test_weight(watched: Watched, tmp_path: Path) -> None:
    """H10, H13: a script's weight is reported when it changes, with its reason; exit status 0 asks for the configured one."""
    for directory in (tmp_path, *tmp_path.parents):
        directory.chmod(0o755)
        if directory.name.startswith("pytest-of-") or directory.parent.parent == directory.parent:
            break
    code = tmp_path / "code"
    script = tmp_path / "check"
    script.write_text(f"#!/bin/sh\nread code < {code}; exit $code\n")
    script.chmod(0o755)
    code.write_text("12\n")
    slow = QUICK | {"timeout": 1.0, "interval": 1.0}
    spec = ScriptProbe(command=(str(script),), dynamic_weight=True, **slow)
    watched.monitor.watch([Target("a", "192.0.2.1", 1, (spec,), weight=7, state="up")])
    verdict = await watched.next()
    assert (verdict.state, verdict.previous, verdict.weight, verdict.reason) == (
        "up",
        "up",
        10,
        "exit status 12: weight 10",
    )
    code.write_text("0\n")
    watched.monitor.hint("a")
    verdict = await watched.next()
    assert (verdict.state, verdict.weight) == ("up", None)
    assert verdict.reason.startswith("exit status 0")


async def test_known_state_outlives_the_process(watched: Watched) -> None:
    """H1, H2: a monitor that starts from earlier verdicts does not report them again, and takes no backend down before `fall`."""
    spec = TcpProbe(**QUICK, fall=4)
    watched.monitor.watch([Target("a", "127.0.0.1", 1, (spec,), state="up", weight=None)])
    assert watched.states() == ["up"]
    verdict = await watched.next()
    assert (verdict.previous, verdict.state, verdict.reason) == (
        "up",
        "down",
        "connection refused (4 failures in a row)",
    )


async def test_joining_a_shared_probe(watched: Watched, tcp_server) -> None:
    """H8, H11: a backend that joins a service by a reload, asked already for another, takes part in its logins at once."""
    boxes = [Mailbox(), Mailbox()]
    ports = [(await tcp_server(box.talk))[1] for box in boxes]
    one, other = (Target(f"mail/{at}", "127.0.0.1", port, (LOGIN,), service="mail") for at, port in enumerate(ports))
    elsewhere = replace(other, key="more/1", service="more")
    watched.monitor.watch([one, elsewhere])
    assert {(await watched.next()).state for _ in range(2)} == {"up"}
    watched.monitor.watch([one, elsewhere, other])
    verdict = await watched.next()
    assert (verdict.key, verdict.state) == ("mail/1", "up")
    for box in boxes:
        box.password = "another"
    assert {(await watched.alarm()).service for _ in range(2)} == {"mail", "more"}
    watched.monitor.watch([one, elsewhere, other, replace(other, key="new/1", service="new")])
    assert (await watched.alarm()).service == "new"
    assert watched.states() == ["up", "up", "up", "unknown"]


async def test_run_now(watched: Watched, tcp_server, leftovers) -> None:
    """A run by hand shows what was said, asks a shared question once, changes no verdict and leaves nothing."""
    box = Mailbox()
    server, port = await tcp_server(box.talk)
    never = {"interval": 3600.0, "fast_interval": 3600.0, "timeout": 1.0}
    login = LOGIN.model_copy(update=never)
    probes = (login, TcpProbe(port=1, report_only=True, **never))
    watched.monitor.watch([Target(key, "127.0.0.1", port, probes, service="mail") for key in ("a", "b")])
    await watched.next()
    await watched.next()
    accepted = server.accepted
    leftovers.mark()
    rows = await watched.monitor.run_now(["a", "b", "gone"])
    await leftovers.check()
    assert [(row["key"], row["type"], row["ok"], row["report_only"]) for row in rows] == [
        ("a", "pop3", True, False), ("a", "tcp", False, True), ("b", "pop3", True, False), ("b", "tcp", False, True),
    ]  # fmt: skip
    assert server.accepted == accepted + 1
    assert "-> PASS ****" in rows[0]["transcript"]
    assert watched.verdicts.empty()
    watched.secrets.update({})
    rows = await watched.monitor.run_now(["a"])
    assert rows[0]["reason"] == f"could not probe: password file {FILE} was not passed to the health process"
    assert os.path.basename(FILE) in rows[0]["transcript"][0]  # noqa: PTH119 - text


async def test_run_now_compares(watched: Watched, udp_server) -> None:
    """H7, H13: a run by hand shows that a backend is behind the others, even if it probes only that one, and changes no verdict."""
    zones, servers = await two_zones(watched, udp_server)
    before = [server.received for server in servers]
    watched.monitor.watch(
        [
            replace(one.target, probes=(SOA.model_copy(update={"interval": 3600.0, "fast_interval": 3600.0}),))
            for one in watched.monitor._backends.values()
        ]
    )
    while any(server.received == count for server, count in zip(servers, before, strict=True)):  # noqa: ASYNC110
        await asyncio.sleep(0.01)  # the last runs at the old pace
    zones[1].serial = 111
    behind = "serial 100 is 11 behind ns1's 111, over max-serial-lag (10)"
    rows = await watched.monitor.run_now(["ns0", "ns1"])
    assert (rows[0]["ok"], rows[0]["reason"]) == (False, behind)
    assert rows[0]["transcript"][-1] == f"FAIL: {behind}"
    assert rows[1]["ok"]
    (row,) = await watched.monitor.run_now(["ns0"])
    assert row["ok"]  # of ns1 counts what the probes found, as it is not asked now
    assert watched.states() == ["up", "up"]
    zones[0].serial = 85
    (row,) = await watched.monitor.run_now(["ns0"])
    assert row["reason"] == "serial 85 is 15 behind ns1's 100, over max-serial-lag (10)"
    assert watched.verdicts.empty()


async def test_authorities_are_handed_over(watched: Watched, tmp_path: Path, tcp_server) -> None:
    """H1, H13: a probe gets its tls-ca-file from its source; without the file there is no verdict, and the report says why."""
    needed("openssl")
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("127.0.0.1"))
    _, port = await tcp_server(in_tls(context, lambda reader, _: reader.read(-1)))
    path = "/etc/steelyard/ca.pem"
    words = f"tls-ca-file {path} cannot be read: Permission denied"
    watched.secrets.update({path: words})
    spec = TcpProbe(tls="implicit", tls_ca_file=path, **{**QUICK, "timeout": 1, "interval": 1})
    watched.monitor.watch([Target("a", "127.0.0.1", port, (spec,), service="web", name="a")])
    while watched.monitor.report()["a"][0]["reason"] != f"could not probe: {words}":  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)
    assert watched.states() == ["unknown"]
    watched.monitor.secrets_changed(watched.secrets.update({path: authority.ca.read_bytes()}))
    while watched.states() != ["up"]:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)
