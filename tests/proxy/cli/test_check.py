"""`steelyard check`."""

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress

import dns.message
import dns.rrset
import pytest

from tests.command import steelyard

TCP = '[service.a]\nlisten = ["127.0.0.1:{port}/tcp"]\nbackends = [{backends}]\n'
UNMADE = 'probe = { type = "ldap", base = "dc=example,dc=net", filter = "(no filter)" }\n'


def check(*arguments):
    """Run the command in this process."""
    return steelyard("check", *arguments)


def run(*arguments, prefix=("-m", "proxy")):
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, *prefix, "check", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a configuration file."""

    def write_text(text):
        path = tmp_path / "steelyard.toml"
        path.write_text(text)
        return path

    return write_text


@pytest.fixture
def servers():
    """Return a function that starts a server which greets whoever connects, and returns its port."""
    with ExitStack() as stack:

        def start(greeting=b""):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve():
                with suppress(OSError):
                    while True:
                        client, _ = listener.accept()
                        with client, suppress(OSError):
                            client.sendall(greeting)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()

            def stop():
                listener.shutdown(socket.SHUT_RDWR)
                thread.join()

            stack.callback(stop)
            return listener.getsockname()[1]

        yield start


def test_a_sound_file_is_summed_up(write):
    """A file without errors is one line with its counts, exit code 0."""
    path = write(TCP.format(port=8080, backends='"10.0.0.1", "10.0.0.2"'))
    done = run(path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{path}: 1 service, 2 backends, 1 listener: no errors\n"


def test_errors_go_to_standard_error_with_exit_code_2(write):
    """R1: every mistake is on standard error as file:line:col with its line and a caret, exit code 2."""
    path = write(TCP.format(port=8080, backends='"10.0.0.1"') + "quorum = 0\nschedular = 'rr'\n")
    done = run(path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"{path}:4:10: error: quorum = 0 is too small: at least 1",
        "    quorum = 0",
        "             ^",
        f'{path}:5:1: error: unknown key "schedular"',
        "    schedular = 'rr'",
        "    ^^^^^^^^^",
        '    did you mean "scheduler"?',
        f"{path}: 2 errors",
    ]


def test_warnings_are_no_errors(write):
    """A file that is only unwise is told why, and ends with 0."""
    done = check(write(TCP.format(port=3306, backends='"10.0.0.1"')))
    assert done.returncode == 0
    assert "warning: a bare tcp probe on 3306" in done.stderr
    assert done.stdout.endswith("no errors, 1 warning\n")


def test_what_run_would_refuse_is_refused(write):
    """R13: a setting that this version does not support is an error with its place, as for `run`."""
    path = write(TCP.format(port=8080, backends='"10.0.0.1"') + UNMADE)
    done = check(path)
    assert done.returncode == 2
    assert f"{path}:4:9: error: this ldap probe cannot be created" in done.stderr
    assert done.stderr.endswith(f"{path}: 1 error\n")


@pytest.mark.parametrize(("name", "code"), [("none.toml", 6), ("", 6)])
def test_a_file_that_is_not_there_is_6(tmp_path, name, code):
    """A missing file, or a folder, ends with 6."""
    assert check(tmp_path / name).returncode == code


def test_the_usual_file_is_the_default():
    """Without an argument it is the file that the daemon reads."""
    assert "/etc/steelyard/steelyard.toml" in check("--help").stdout


def test_looking_at_the_host(write):
    """R2: `--host` warns of who holds a listener's port, as text and as JSON, fails for no warning, and binds nothing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = write(TCP.format(port=port, backends='"127.0.0.1:1"'))
        done = check(path, "--host")
        told = json.loads(check(path, "--host", "--json").stdout)["host"]
    assert done.returncode == 0
    assert f"host: warning: 127.0.0.1:{port}/tcp is in use by " in done.stderr
    assert f"(pid {os.getpid()})" in done.stderr
    assert any(f":{port}/tcp is in use" in finding["message"] for finding in told)


def test_all_nodes_unless_told(write):
    """Without `--node` the mistakes of every node are found, with it only that node's."""
    path = write(
        'nodes = ["lb1", "lb2"]\n[node]\nworkers = { lb1 = 1, lb2 = 0 }\n'
        + TCP.format(port=8080, backends='"10.0.0.1"')
    )
    assert check(path).returncode == 2
    assert check(path, "--node", "lb1").returncode == 0
    assert check(path, "--node", "lb2").returncode == 2
    assert check(path, "--node", "lb3").returncode == 2


def test_json(write):
    """`--json` prints one object with every diagnostic and the counts, with the same exit code."""
    done = check(write(TCP.format(port=3306, backends='"10.0.0.1"')), "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, done.stderr, document["valid"]) == (0, "", True)
    assert (document["services"], document["backends"], document["listeners"]) == (1, 1, 1)
    assert [(item["severity"], item["line"]) for item in document["diagnostics"]] == [("warning", 2)]
    later = check(write(TCP.format(port=3306, backends='"10.0.0.1"') + UNMADE), "--json")
    document = json.loads(later.stdout)
    assert (later.returncode, document["valid"]) == (2, False)
    assert [item["line"] for item in document["unsupported"]] == [4]
    wrong = check(write("x = 1\n"), "--json")
    document = json.loads(wrong.stdout)
    assert (wrong.returncode, document["valid"]) == (2, False)
    assert document["diagnostics"][0]["message"] == 'unknown key "x"'
    assert (document["diagnostics"][0]["line"], document["diagnostics"][0]["col"]) == (1, 1)


def test_live_probes_each_backend_once(write, servers):
    """`--live` prints an aligned table of every backend, and the transcript of a probe that fails, which makes it 1."""
    up, down = servers(), free_port()
    done = check(write(TCP.format(port=8080, backends=f'"127.0.0.1:{up}"')), "--live")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = done.stdout.splitlines()[1:]
    assert rows[0].split() == ["SERVICE", "BACKEND", "PROBE", "RESULT", "MS", "REASON"]
    assert rows[1].split()[:5] == ["a", f"127.0.0.1:{up}", "tcp", str(up), "ok"]
    done = run(write(TCP.format(port=8080, backends=f'"127.0.0.1:{up}", "127.0.0.1:{down}"')), "--live")
    assert done.returncode == 1
    rows = done.stdout.splitlines()[1:4]
    assert [row.split()[4] for row in rows[1:]] == ["ok", "FAIL"]
    assert rows[0].index("RESULT") == rows[1].index("ok") == rows[2].index("FAIL")
    assert done.stdout.splitlines()[4:] == [
        "",
        f"a/127.0.0.1:{down}: tcp 127.0.0.1 port {down}",
        f"  -> connect 127.0.0.1:{down}/tcp",
        "  FAIL: connection refused",
    ]


def test_live_shows_every_transcript_when_asked(write, servers):
    """`--live --verbose` prints what was said by the probes that passed as well."""
    port = servers(b"220 ready\r\n")
    text = TCP.format(port=8080, backends=f'"127.0.0.1:{port}"') + 'probe = { type = "tcp", expect = "220" }\n'
    assert "<-" not in check(write(text), "--live").stdout
    lines = check(write(text), "--live", "--verbose").stdout.splitlines()[3:]
    assert lines[:3] == ["", f"a/127.0.0.1:{port}: tcp 127.0.0.1 port {port}", f"  -> connect 127.0.0.1:{port}/tcp"]
    assert '  <- 11 bytes "220 ready\\r\\n"' in lines
    assert lines[-1].startswith("  pass: answered as expected in ")


def test_live_json_has_the_probes(write, servers):
    """With `--json` the table is a list of objects, each with its transcript."""
    port = servers(b"220 ready\r\n")
    text = TCP.format(port=8080, backends=f'"127.0.0.1:{port}"') + 'probe = { type = "tcp", expect = "220" }\n'
    (row,) = json.loads(check(write(text), "--live", "--json").stdout)["probes"]
    assert (row["service"], row["probe"], row["port"], row["ok"]) == ("a", "tcp", port, True)
    assert row["latency_ms"] > 0
    assert row["transcript"]


def test_a_report_only_probe_fails_nothing(write):
    """H15: a probe that only reports is shown failing, and does not make the exit code 1."""
    text = (
        TCP.format(port=8080, backends=f'"127.0.0.1:{free_port()}"') + 'probe = { type = "tcp", report-only = true }\n'
    )
    done = check(write(text), "--live")
    assert (done.returncode, "FAIL" in done.stdout, "(report only)" in done.stdout) == (0, True, True)


def test_live_asks_what_routers_track(write, servers):
    """`--live` runs the probes that routers track as well, beside the router's name, and one that fails makes it 1."""
    text = (
        '[vrrp.outside]\ninterface = "eth0"\nvrid = 1\naddresses = ["198.51.100.10/24"]\n'
        'track = [{{ probe = "gateway", penalty = 60 }}]\n'
        '[probe.gateway]\ntype = "tcp"\naddress = "127.0.0.1"\nport = {port}\n'
    )
    (row,) = json.loads(check(write(text.format(port=servers())), "--live", "--json").stdout)["probes"]
    assert (row["service"], row["backend"], row["probe"], row["ok"]) == ("vrrp outside", "gateway", "tcp", True)
    done = check(write(text.format(port=free_port())), "--live")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "  FAIL: connection refused"


def test_live_compares_the_backends(write):
    """H7: of two DNS servers the one whose zone is too far behind fails, with the name of the other in the reason."""
    with ExitStack() as stack:
        ports = [stack.enter_context(dns_server(serial)) for serial in (7, 18)]
        rows = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
        text = (
            f'[service.dns]\nlisten = ["127.0.0.1:{free_port()}/udp"]\nprotocol = "dns"\nbackends = [{rows}]\n'
            'probe = { type = "dns", query = "example.net SOA", max-serial-lag = 10 }\n'
        )
        done = check(write(text), "--live")
        assert done.returncode == 1
        behind = f"serial 7 is 11 behind 127.0.0.1:{ports[1]}'s 18, over max-serial-lag (10)"
        assert [line.split()[4] for line in done.stdout.splitlines()[2:4]] == ["FAIL", "ok"]
        assert done.stdout.splitlines()[-1] == f"  FAIL: {behind}"
        assert check(write(text.replace("lag = 10", "lag = 11")), "--live").returncode == 0


@contextmanager
def dns_server(serial):
    """Run a DNS server that has one zone; its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(20)

        def serve():
            with suppress(OSError):
                while True:
                    query, client = sock.recvfrom(4096)
                    if not query:
                        return
                    reply = dns.message.make_response(dns.message.from_wire(query))
                    soa = f"ns.example.net. root.example.net. {serial} 1 1 1 1"
                    reply.answer.append(dns.rrset.from_text("example.net.", 60, "IN", "SOA", soa))
                    sock.sendto(reply.to_wire(), client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", sock.getsockname())
            thread.join()


def test_a_probe_that_cannot_be_made_is_refused(write):
    """R13: a probe that this version cannot make is an error with its place, and no probe runs."""
    text = 'probe = { type = "ldap", base = "dc=example,dc=net", filter = "(no filter)" }\n'
    done = check(write(TCP.format(port=8080, backends='"127.0.0.2"') + text), "--live")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: this ldap probe cannot be created: " in done.stderr


def free_port():
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


WATCHED = """
import sys
def watch(event, arguments):
    if event in ("socket.bind", "socket.listen"):
        print("BOUND", event, arguments, file=sys.stderr)
sys.addaudithook(watch)
from proxy.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("live", [[], ["--live"]])
def test_check_binds_nothing(write, servers, live):
    """R2: the process makes no bind at all (the interpreter's own audit says so), so a file whose ports are in use is valid."""
    port, backend = servers(), servers()
    text = (
        TCP.format(port=port, backends=f'"127.0.0.1:{backend}"')
        + f'[service.b]\nlisten = ["127.0.0.1:{port}/udp", "127.0.0.1:{free_port()}/tcp"]\nbackends = ["127.0.0.2"]\n'
        + f'protocol = "dns"\nprobe = {{ type = "tcp", address = "127.0.0.1", port = {backend} }}\n'
    )
    done = run(write(text), *live, prefix=("-c", WATCHED))
    assert (done.returncode, done.stderr) == (0, "")
