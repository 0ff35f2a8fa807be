"""Probing in a running daemon: passwords, alarms, weights, pings and runs by hand; on loopback, each test its own daemon."""

import base64
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from proxy.moments import unix
from tests.e2e.loopback import ROOT, Backend, Node, echo_service, exchange, free_port, lift_loopback
from tests.e2e.process import until
from tests.health.launch import needed
from tests.health.pki import Authority

SECRET = "s3cret-of-the-probe"
NEW_SECRET = "an0ther-s3cret"
QUICK = 'interval = "200ms", fast-interval = "100ms", down-interval = "200ms", timeout = "150ms"'


@pytest.fixture(autouse=True, scope="module")
def _loopback():
    lift_loopback()


@pytest.fixture
def node(tmp_path):
    """Make a daemon in a directory that its children may enter; it is gone afterwards."""
    made = []
    for directory in (tmp_path, *tmp_path.parents):
        directory.chmod(0o755)  # pytest closes them to all others
        if directory.name.startswith("pytest-of-") or directory.parent.parent == directory.parent:
            break

    def start(services):
        made.append(Node(tmp_path, services, workers=1))
        return made[-1]

    yield start
    for one in made:
        one.end()


class Mailboxes:
    """A POP3 server with one user, which repeats a wrong password in its answer."""

    def __init__(self, password: str) -> None:
        self.password = password
        self.refusal = "[AUTH] no such password"
        self.logins = 0
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.sock.accept()
                with client, suppress(OSError):
                    self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        client.settimeout(1)
        client.sendall(b"+OK ready\r\n")
        for line in client.makefile("rb"):
            word, _, rest = line.decode().strip().partition(" ")
            if word == "PASS":
                self.logins += 1
                if rest != self.password:
                    client.sendall(f"-ERR {self.refusal}: {rest}\r\n".encode())
                    continue
            client.sendall(b"+OK\r\n")
            if word == "QUIT":
                return


@pytest.fixture
def mailboxes():
    two = [Mailboxes(SECRET), Mailboxes(SECRET)]
    yield two
    for one in two:
        one.close()


@pytest.fixture
def password(tmp_path):
    """Return a password file that its owner alone can read."""
    path = tmp_path / "password"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


def mail_service(servers, password: Path) -> str:
    rows = ", ".join(
        f'{{ name = "m{at}", address = "127.0.0.1", port = {one.port} }}' for at, one in enumerate(servers)
    )
    return (
        f'[service.mail]\nlisten = ["127.0.0.1:{free_port()}/tcp"]\nbackends = [{rows}]\n'
        f'probe = {{ type = "pop3", user = "probe", password-file = "{password}", {QUICK} }}\n'
    )


def states(status):
    """Return the states of all backends."""
    return [backend["state"] for service in status["services"] for backend in service["backends"]]


def events(daemon, kind):
    """Return the texts of the events of a kind."""
    return [event for event in daemon.ask("events")["events"] if event["kind"] == kind]


def command(daemon, *arguments):
    """Run `steelyard` against a daemon."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "proxy", "-s", str(daemon.socket), *arguments],
        capture_output=True, text=True, timeout=30, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_a_changed_password_takes_nothing_down(node, mailboxes, password):
    """H8: while every backend refuses the login the verdicts stay and one alarm is raised; a new password ends it."""
    daemon = node(mail_service(mailboxes, password)).start()
    assert states(daemon.status()) == ["up", "up"]
    for one in mailboxes:
        one.password = NEW_SECRET
    until(lambda: events(daemon, "alarm"), 10, "the alarm")
    refused = [one.logins for one in mailboxes]
    until(
        lambda: all(one.logins > 8 + before for one, before in zip(mailboxes, refused, strict=True)),
        10,
        "more refusals",
    )
    assert states(daemon.status()) == ["up", "up"]
    assert [(event["subject"], event["level"]) for event in events(daemon, "alarm")] == [("mail", "error")]
    assert "every backend refuses the pop3 login of probe" in events(daemon, "alarm")[0]["text"]
    (alarm,) = daemon.fresh()["alarms"]
    assert alarm["service"] == "mail"
    assert unix(alarm["since"]) == pytest.approx(unix(events(daemon, "alarm")[0]["at"]), abs=0.1)
    assert "alarm mail: every backend refuses the pop3 login of probe" in daemon.steelyard("status")[1]
    password.write_text(NEW_SECRET)
    until(lambda: len(events(daemon, "alarm")) == 2, 10, "the end of the alarm")
    assert events(daemon, "alarm")[1]["text"].startswith("over: the pop3 login of probe succeeds again on m")
    assert daemon.fresh()["alarms"] == []
    assert any(f"password file {password} has changed" in event["text"] for event in events(daemon, "probe"))
    assert states(daemon.status()) == ["up", "up"]


def test_a_wrong_password_from_the_start_takes_nothing_down(node, mailboxes, password):
    """H8, H13: if all backends refuse the login from the start, an alarm is raised, and all serve after 3 s."""
    for one in mailboxes:
        one.password = NEW_SECRET
    daemon = node(mail_service(mailboxes, password)).start(ready=False)
    greeted_by(daemon)
    status = daemon.until(lambda status: all(worker["alive"] for worker in status["workers"]), "the workers")
    assert states(status) == ["unknown", "unknown"]
    assert status["services"][0]["state"] == "degraded"
    for backend in status["services"][0]["backends"]:
        refused = 'login refused: the answer to PASS was "-ERR [AUTH] no such password: ****"'
        assert backend["reason"] == f"{refused} (not judged: taken as up)"
        assert backend["effective_weight"] == 1
    assert daemon.steelyard("status")[0] == 1
    assert [event["state"] for event in events(daemon, "alarm")] == ["raised"]
    (late,) = [event["text"] for event in events(daemon, "service")]
    assert late == f"no verdict after 3 s on m0, m1 ({refused}): all taken as up: tier 0 serves"
    password.write_text(NEW_SECRET)
    daemon.until(lambda status: states(status) == ["up", "up"], "the verdicts")


def test_a_limit_of_ours_from_the_start_takes_nothing_down(node, mailboxes, password):
    """H8, H13: a probe that meets a limit of its own from the start raises one alarm, and all serve after 3 s."""
    for one in mailboxes:
        one.password, one.refusal = NEW_SECRET, "[LOGIN-DELAY] wait a minute"
    daemon = node(mail_service(mailboxes, password)).start(ready=False)
    greeted_by(daemon)
    backend = daemon.status()["services"][0]["backends"][0]
    limit = 'could not probe: the answer to PASS was "-ERR [LOGIN-DELAY] wait a minute: ****": use a longer interval'
    assert backend["reason"] == f"{limit} (not judged: taken as up)"
    assert [(probe["ok"], probe["reason"]) for probe in backend["probes"]] == [(False, limit)]
    (alarm,) = events(daemon, "alarm")
    assert alarm["text"].startswith("the pop3 probe cannot judge ")
    assert alarm["text"].endswith(f": {limit}: its verdict does not change")


def test_nobody_serves_where_nobody_is_usable(node, mailboxes, password):
    """H1, H13: a service with a dead backend and a silent one refuses clients after 3 s, with an event."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        text = mail_service(mailboxes, password).replace(f"port = {mailboxes[0].port}", f"port = {free_port()}")
        text = text.replace(f"port = {mailboxes[1].port}", f"port = {mute.getsockname()[1]}").replace("150ms", "1h")
        text = text.replace('interval = "200ms"', 'interval = "1h"')
        daemon = node(text).start(ready=False)
        port_of(daemon)
        late = until(lambda: [event["text"] for event in events(daemon, "service")], 15, "the event")
    assert late == ["no verdict after 3 s on m1: no backend is fit (0 of 2 up in tier 0): no backend serves"]
    port = port_of(daemon)
    # As soon as it is connected, perhaps.
    with pytest.raises(ConnectionResetError), socket.create_connection(("127.0.0.1", port), 5) as client:
        client.recv(100)


def port_of(daemon):
    """Return the port of the first listener of a daemon that may only just have been started."""
    until(daemon.socket.exists, 10, "the control socket")
    return int(daemon.status()["services"][0]["listen"][0].rpartition(":")[2].partition("/")[0])


def greeted_by(daemon):
    """Be greeted through the service."""
    with socket.create_connection(("127.0.0.1", port_of(daemon)), 15) as client:
        client.settimeout(15)
        assert client.recv(100) == b"+OK ready\r\n"


def test_one_that_refuses_alone_goes_down(node, mailboxes, password):
    """H8, H13: if one backend refuses a login that the other accepts, it fails, with its own words as the reason."""
    daemon = node(mail_service(mailboxes, password)).start()
    mailboxes[1].password = NEW_SECRET
    status = daemon.until(lambda status: states(status) == ["up", "down"], "the verdict")
    assert "[AUTH] no such password: ****" in status["services"][0]["backends"][1]["reason"]
    assert events(daemon, "alarm") == []


def test_the_password_shows_nowhere(node, mailboxes, password, tmp_path):
    """S6: neither password is in logs, status, events, configuration, transcripts, process titles or files of state."""
    daemon = node(mail_service(mailboxes, password))
    daemon.text = daemon.text.replace("[control]", '[log]\nlevel = "debug"\nformat = "json"\n[control]')
    daemon.start()
    said = [command(daemon, "probe", "mail").stdout]
    for one in mailboxes:
        one.password = NEW_SECRET
    until(lambda: events(daemon, "alarm"), 10, "the alarm")
    said += [command(daemon, *what).stdout for what in (
        ("probe", "mail"), ("probe", "mail", "--json"), ("status", "--json"), ("status",), ("events",), ("config",), ("check", str(daemon.file), "--live"),
    )]  # fmt: skip
    assert said[0].count("pass: logged in") == 2
    assert said[1].count("****") >= 2
    os.kill(daemon.health(), 11)  # a crash leaves no core
    until(lambda: daemon.told("health", "died"), 10, "the crash to be told")
    password.write_text(NEW_SECRET)
    until(lambda: len(events(daemon, "probe")) >= 1, 10, "the change to be seen")
    for pid in daemon.family():
        with suppress(OSError):
            said += [
                Path(f"/proc/{pid}/{name}").read_bytes().decode("latin-1") for name in ("cmdline", "environ", "comm")
            ]
    said += [path.read_text() for path in (tmp_path / "state").rglob("*") if path.is_file()]
    said.append(daemon.output())
    shown = [
        form for secret in (SECRET, NEW_SECRET) for form in (secret, base64.b64encode(secret.encode()).decode()[:20])
    ]
    assert not any(secret in text for text in said for secret in shown)
    assert [path for path in tmp_path.rglob("core*") if path.is_file()] == []


def test_a_missing_password_file_is_told(node, mailboxes, password):
    """H13: if a password file disappears, verdicts stay, and an event and the status say what is missing."""
    daemon = node(mail_service(mailboxes, password)).start()
    password.unlink()
    until(lambda: [event for event in events(daemon, "probe") if "is missing" in event["text"]], 10, "the event")
    status = daemon.until(
        lambda status: "is missing" in status["services"][0]["backends"][0]["probes"][0]["reason"], "the reason"
    )
    assert states(status) == ["up", "up"]


class Secured:
    """A TLS server that accepts every handshake, with a certificate for its address."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.sock.accept()
                client.settimeout(1)
                with suppress(OSError), client, self.context.wrap_socket(client, server_side=True) as secured:
                    secured.recv(1)


def test_authorities_that_root_alone_can_read(node, tmp_path):
    """H13, S1: health verifies with a tls-ca-file that it cannot read; a change counts, a missing file is reported."""
    needed("openssl")
    ours, others = tmp_path / "ours", tmp_path / "others"
    for place in (ours, others):
        place.mkdir()
    authority, other = Authority(ours), Authority(others, "Foreign Authority")
    trusted = tmp_path / "private" / "ca.pem"
    trusted.parent.mkdir(mode=0o700)
    trusted.write_bytes(authority.ca.read_bytes())
    trusted.chmod(0o600)
    server = Secured(*authority.issue("127.0.0.1"))
    services = (
        f'[service.web]\nlisten = ["127.0.0.1:{free_port()}/tcp"]\n'
        f'backends = [{{ address = "127.0.0.1", port = {server.port} }}]\n'
        f'probe = {{ type = "tcp", tls = "implicit", tls-ca-file = "{trusted}", interval = "300ms", fast-interval = "100ms" }}\n'
    )
    try:
        daemon = node(services).start()
        assert states(daemon.status()) == ["up"], daemon.status()["services"][0]["backends"]
        trusted.write_bytes(other.ca.read_bytes())
        status = daemon.until(lambda status: states(status) == ["down"], "the distrust")
        assert "which is not trusted" in status["services"][0]["backends"][0]["reason"]
        trusted.write_bytes(authority.ca.read_bytes())
        daemon.until(lambda status: states(status) == ["up"], "the trust")
        trusted.unlink()
        words = f"tls-ca-file {trusted} is missing"
        until(lambda: [event for event in events(daemon, "probe") if event["text"] == words], 10, "the event")
        daemon.until(lambda status: words in status["services"][0]["backends"][0]["probes"][0]["reason"], "the reason")
        assert states(daemon.status()) == ["up"]
    finally:
        server.close()


def test_dynamic_weight_reaches_the_workers(node, tmp_path):
    """H10: the exit status of a script sets the weight of its backend in the workers, and 1 takes it down."""
    backends = [Backend(), Backend()]
    code = tmp_path / "code"
    code.write_text("3")
    script = tmp_path / "check"
    script.write_text(f'#!/bin/sh\n[ "$1" = {backends[0].port} ] || exit 10\nread code < {code}; exit $code\n')
    script.chmod(0o755)
    port = free_port()
    service = echo_service(port, backends, 'scheduler = "round-robin"').replace(
        'type = "tcp"', f'type = "script", command = ["{script}", "{{port}}"], dynamic-weight = true'
    )
    try:
        daemon = node(service).start()
        daemon.until(lambda status: weights(status) == [1, 8], "the first weights")
        before = backends[0].connections
        for _ in range(36):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
                assert exchange(sock, b"x") == b"x"
        assert backends[0].connections - before == 4
        code.write_text("2")
        daemon.until(lambda status: weights(status) == [0, 8], "the weight 0")
        code.write_text("1")
        status = daemon.until(lambda status: states(status) == ["down", "up"], "the verdict")
        assert "exit status 1" in status["services"][0]["backends"][0]["reason"]
        code.write_text("0")
        daemon.until(lambda status: weights(status) == [1, 8] and states(status) == ["up", "up"], "the return")
        assert any("weight 0: exit status 2: weight 0" in event["text"] for event in events(daemon, "weight"))
    finally:
        for one in backends:
            one.close()


def weights(status):
    """Return the weights in effect of all backends."""
    return [backend["effective_weight"] for service in status["services"] for backend in service["backends"]]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may hand over a raw socket")
def test_ping_without_privileges(node):
    """S1, H3: the health process pings gateways although it may not open such a socket itself."""
    services = (
        f'[service.gateway]\nlisten = ["127.0.0.1:{free_port()}/tcp"]\nbackends = ["127.0.0.1:9", "[::1]:9"]\n'
        f'probe = {{ type = "ping", {QUICK} }}\n'
    )
    status = node(services).start().status()
    assert states(status) == ["up", "up"], status["services"][0]["backends"]


def test_probe_by_hand(node):
    """`steelyard probe` runs the probes in the daemon, shows the dialogue, exits with 1 on failure, and changes no verdict."""
    backends = [Backend(), Backend()]
    try:
        daemon = node(echo_service(free_port(), backends)).start()
        done = command(daemon, "probe", "echo")
        assert done.returncode == 0, done.stderr
        assert [line for line in done.stdout.splitlines() if not line.startswith(" ")] == [
            f"echo/b0: tcp 127.0.0.1 port {backends[0].port}", "", f"echo/b1: tcp 127.0.0.1 port {backends[1].port}",
        ]  # fmt: skip
        backends[1].refuse()
        done = command(daemon, "probe", "echo", "b1", "--json")
        assert done.returncode == 1
        (row,) = json.loads(done.stdout)["probes"]
        assert (row["backend"], row["ok"], row["reason"]) == ("b1", False, "connection refused")
        assert row["transcript"][-1] == "FAIL: connection refused"
        for wrong, words in (
            (("probe", "ecko"), 'there is no service "ecko": did you mean "echo"?'),
            (("probe", "echo", "x"), "only b0, b1"),
        ):
            done = command(daemon, *wrong)
            assert done.returncode == 64
            assert words in done.stderr
        assert command(Node(daemon.dir / "none", ""), "probe", "echo").returncode == 3
    finally:
        for one in backends:
            one.close()


def test_serials_are_compared_within_a_service(node):
    """H7: a DNS server whose zone is too far behind the other server's is down, and the reason names both."""
    import dns.message
    import dns.rrset

    serials = {}
    socks = []

    def serve(sock):
        with suppress(OSError):
            while True:
                data, client = sock.recvfrom(4096)
                query = dns.message.from_wire(data)
                answer = dns.message.make_response(query)
                soa = f"ns.example.net. root.example.net. {serials[sock.getsockname()[1]]} 1 1 1 1"
                answer.answer.append(dns.rrset.from_text("example.net.", 60, "IN", "SOA", soa))
                sock.sendto(answer.to_wire(), client)

    for _ in range(2):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        serials[sock.getsockname()[1]] = 4294967290
        socks.append(sock)
        threading.Thread(target=serve, args=(sock,), daemon=True).start()
    ports = list(serials)
    rows = ", ".join(f'{{ name = "ns{at}", address = "127.0.0.1", port = {port} }}' for at, port in enumerate(ports))
    daemon = node(
        f'[service.dns]\nlisten = ["127.0.0.1:{free_port()}/udp"]\nprotocol = "dns"\nbackends = [{rows}]\n'
        f'probe = {{ type = "dns", query = "example.net SOA", max-serial-lag = 10, {QUICK} }}\n'
    ).start()
    assert states(daemon.status()) == ["up", "up"]
    serials[ports[1]] = 4
    serials[ports[0]] = 4294967290 + 1
    status = daemon.until(lambda status: states(status) == ["up", "up"] and "4" in str(status), "ten are no lag")
    serials[ports[1]] = 16
    status = daemon.until(lambda status: states(status) == ["down", "up"], "the verdict")
    reason = status["services"][0]["backends"][0]["reason"]
    assert reason.startswith("serial 4294967291 is 21 behind ns1's 16, over max-serial-lag (10)")
    assert status["services"][0]["backends"][0]["probes"][0]["ok"] is False
    serials[ports[0]] = 16
    daemon.until(lambda status: states(status) == ["up", "up"], "the return")
    for sock in socks:
        sock.close()
