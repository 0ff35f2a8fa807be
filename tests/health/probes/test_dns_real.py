"""The dns probe against nsd and unbound, started in the foreground on loopback."""

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from health.probes import run_once
from health.spec import DnsProbe

ZONE = """$ORIGIN example.net.
@ 60 IN SOA ns1 hostmaster 2024010101 7200 3600 1209600 60
@ 60 IN NS ns1
ns1 60 IN A 192.0.2.53
www 60 IN A 192.0.2.80
alias 60 IN CNAME www
text 60 IN TXT "v=spf1 -all"
child 60 IN NS ns1.child
ns1.child 60 IN A 192.0.2.54
"""


def needed(name: str) -> str:
    """Return the path of a Debian package's server; skip without it, but never under CI."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        message = f"{name} is not installed: apt-get install {name}"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    return found


def free_port() -> int:
    """Return a port that is free for both transports just now."""
    for _ in range(50):
        with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("127.0.0.1", 0))
            try:
                tcp.bind(udp.getsockname())
            except OSError:
                continue
            return udp.getsockname()[1]
    raise AssertionError("no port is free for both")


def run(command: list[str], port: int, log: Path, ready: DnsProbe) -> Iterator[int]:
    """Run a server in the foreground until the test module ends; yields its port when it answers."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + 15
            while not asyncio.run(run_once(ready, "127.0.0.1", port))[0].ok:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"{command[0]} does not answer:\n{log.read_text()}")
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture(scope="module")
def nsd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Run nsd with the zone example.net; yields its port."""
    binary, base, port = needed("nsd"), tmp_path_factory.mktemp("nsd"), free_port()
    (base / "example.net.zone").write_text(ZONE)
    (base / "nsd.conf").write_text(f"""
server:
    ip-address: 127.0.0.1@{port}
    server-count: 1
    username: ""
    chroot: ""
    zonesdir: "{base}"
    database: ""
    pidfile: "{base}/nsd.pid"
    xfrdfile: "{base}/xfrd.state"
    xfrdir: "{base}"
    zonelistfile: "{base}/zone.list"
remote-control:
    control-enable: no
zone:
    name: example.net
    zonefile: example.net.zone
""")
    yield from run([binary, "-d", "-c", str(base / "nsd.conf")], port, base / "log", DnsProbe())


@pytest.fixture(scope="module")
def unbound(nsd: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Run unbound, which asks nsd for example.net, and for the rest a forwarder that refuses: nsd as well; yields its port."""
    binary, base, port = needed("unbound"), tmp_path_factory.mktemp("unbound"), free_port()
    (base / "unbound.conf").write_text(f"""
server:
    interface: 127.0.0.1@{port}
    num-threads: 1
    username: ""
    chroot: ""
    directory: "{base}"
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    do-ip6: no
    do-not-query-localhost: no
    module-config: "iterator"
    local-zone: "refused.example.net." refuse
stub-zone:
    name: "example.net"
    stub-addr: 127.0.0.1@{nsd}
forward-zone:
    name: "."
    forward-addr: 127.0.0.1@{nsd}
remote-control:
    control-enable: no
""")
    ready = DnsProbe(query="x.refused.example.net A", rcode="REFUSED")
    yield from run([binary, "-d", "-c", str(base / "unbound.conf")], port, base / "log", ready)


Probe = Callable[..., object]


@pytest.mark.parametrize("transport", ["udp", "tcp", "both"])
@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"query": "example.net SOA"}, ""),
        ({"query": "EXAMPLE.net soa", "authoritative": True}, ""),
        ({"query": "www.example.net A", "expect": "192.0.2.80"}, ""),
        ({"query": "alias.example.net A", "expect": "192.0.2.80"}, ""),
        ({"query": "text.example.net TXT", "expect": "v=spf1 -all"}, ""),
        ({"query": "www.example.net A", "expect": "192.0.2.81"}, 'wrong answer: "192.0.2.80", not "192.0.2.81"'),
        ({"query": "nothing.example.net A"}, "answered NXDOMAIN, not NOERROR"),
        ({"query": "nothing.example.net A", "rcode": "NXDOMAIN"}, ""),
        ({"query": "www.example.net AAAA"}, "answered NOERROR without a record for www.example.net AAAA"),
        ({"query": "example.com SOA"}, "answered REFUSED, not NOERROR"),
        ({"query": "www.child.example.net A"}, "lame: refers to ns1.child.example.net instead of answering"),
        ({"query": "www.example.net A", "authoritative": False}, "the answer must be not authoritative, but AA is set"),
        ({}, ""),
    ],
)
async def test_nsd(nsd: int, transport: str, keys: dict[str, object], reason: str) -> None:
    """H7: an authoritative server of another maker: NOERROR, wrong answer, NXDOMAIN, REFUSED, lame, over UDP and TCP."""
    outcome, lines = await run_once(DnsProbe(transport=transport, **keys), "127.0.0.1", nsd)
    assert outcome.ok == (not reason), lines
    assert not reason or outcome.reason == reason


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"query": "www.example.net A", "expect": "192.0.2.80", "authoritative": False}, ""),
        ({"query": "www.example.net A", "authoritative": True}, "the answer must be authoritative, but AA is not set"),
        ({"query": "dead.example.com A"}, "answered SERVFAIL, not NOERROR"),
        ({"query": "x.refused.example.net A"}, "answered REFUSED, not NOERROR"),
        ({"query": "www.example.net A", "recurse": False}, "answered REFUSED, not NOERROR"),
    ],
)
async def test_unbound(unbound: int, transport: str, keys: dict[str, object], reason: str) -> None:
    """H7: a resolver of another maker: a recursive answer, SERVFAIL behind a useless forwarder, REFUSED."""
    outcome, lines = await run_once(DnsProbe(transport=transport, timeout=5, interval=5, **keys), "127.0.0.1", unbound)
    assert outcome.ok == (not reason), lines
    assert not reason or outcome.reason == reason
