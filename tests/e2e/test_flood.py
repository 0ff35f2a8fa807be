"""A flood from spoofed sources, at half of the relay's capacity, with real clients in between.

Each source is a new one, a million in all if there is time: FLOOD_SECONDS=180; else as many as 15 s have room for.

The flood is sent by a raw socket in the client's namespace, from addresses of 172.16.0.0/12, to which the balancer has
a route back to where it came from: its answers are carried, and thrown away there.
"""

import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import clients
from tests.e2e.bed import CLIENT, SERVICE, Bed, backend_address, site
from tests.e2e.daemon import ROOT, Daemon
from tests.e2e.process import Proc
from tests.e2e.servers import Nsd

pytestmark = pytest.mark.load

SOURCES = 1_000_000
SPOOFED = "172.16.0.0/12"
LONGEST = float(os.environ.get("FLOOD_SECONDS", "15"))  # that the flood may last: a million takes some minutes
TABLE = 2000  # sessions of the plain service, both workers together
FILE = f"""
[service.dns]
listen   = ["{SERVICE}:53/udp"]
protocol = "dns"
backends = ["10.0.0.11", "10.0.0.12"]
probe    = {{ type = "dns", query = "example.net SOA" }}

[service.plain]
listen   = ["{SERVICE}:5300/udp"]
backends = ["10.0.0.11:53", "10.0.0.12:53"]
probe    = {{ type = "dns", query = "example.net SOA", transport = "udp" }}

[service.plain.udp]
when-full    = "evict-idle"
max-sessions = {TABLE}
"""


@pytest.fixture(scope="module")
def flooded() -> Iterator[tuple[Bed, Daemon]]:
    """Start two name servers and one worker; spoofed addresses are routed to the client, which discards the answers."""
    with site(backends=2) as bed:
        bed.route("balancer", SPOOFED, CLIENT)
        bed.ip("client", f"route add blackhole {SPOOFED}")
        for number in (1, 2):
            Nsd(bed, f"b{number}", [backend_address(number)])
        yield bed, Daemon(bed, "balancer", FILE, workers=1)


def resident(pid: int) -> int:
    """Return the resident octets of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def counters(daemon: Daemon, service: str) -> dict[str, int]:
    """Return the counters of a service."""
    (found,) = (part for part in daemon.status()["services"] if part["name"] == service)
    return {name: int(value) for name, value in found["counters"].items()}


def flood(bed: Bed, port: int, rate: float) -> Proc:
    """Start to send dnsperf's queries, one from each of many spoofed sources, `rate` a second."""
    argv = [sys.executable, "-m", "tests.e2e.test_flood", SERVICE, str(port), f"{rate:.0f}", str(SOURCES), str(LONGEST)]
    return bed.spawn("client", argv, name="flood", env={"PYTHONPATH": str(ROOT)})


def real_clients(bed: Bed, port: int, seconds: float) -> tuple[int, int]:
    """Send 200 queries a second, each once, from a new socket, and wait 2 s; return (sent, answered)."""
    waiting: dict[socket.socket, tuple[bytes, float]] = {}
    asked = answered = 0
    began = time.monotonic()
    while (now := time.monotonic()) < began + seconds or waiting:
        if asked < (now - began) * 200 and now < began + seconds:
            sock = bed.socket("client", kind=clients.UDP)
            sock.connect((SERVICE, port))
            message = query(asked)
            sock.send(message)
            waiting[sock] = message[:2], now + 2
            asked += 1
        for sock in select.select(list(waiting), [], [], 0.002)[0]:
            ident, _ = waiting.pop(sock)
            data = sock.recv(512)
            answered += data[:2] == ident and data[3] & 15 == 0
            sock.close()
        for sock in [sock for sock, (_, ends) in waiting.items() if ends < now]:
            del waiting[sock]
            sock.close()
    return asked, answered


def capacity(bed: Bed, port: int) -> float:
    """Return the queries a second that the relay answers now, on this machine, from few clients."""
    return clients.dnsperf_result(clients.dnsperf_start(bed, SERVICE, 3, port=port, outstanding=200), 30).rate


@pytest.mark.timeout(175 + LONGEST)
def test_dns(flooded):
    """U18: in a flood of spoofed DNS clients, over 99 % of real queries are answered, memory is flat, and nothing is left."""
    bed, daemon = flooded
    half = capacity(bed, 53) / 2
    (worker,) = daemon.workers()
    before, asked_before = resident(worker), counters(daemon, "dns")["queries"]
    attack = flood(bed, 53, half)
    asked, answered = real_clients(bed, 53, 10)
    during = resident(worker)
    try:
        attack.wait(LONGEST + 30)
    except subprocess.TimeoutExpired:
        attack.kill()
    after = counters(daemon, "dns")
    assert after["queries"] - asked_before > 0.9 * int(attack.output().split()[-1]), attack.output()
    assert answered > 0.99 * asked, (asked, answered, after)
    assert max(during, resident(worker)) < before + (16 << 20)
    daemon.until(lambda _: counters(daemon, "dns")["inflight"] == 0, "the table to be empty", 10)
    assert daemon.workers() == [worker]


@pytest.mark.timeout(175 + LONGEST)
def test_plain_udp_evicts_the_idle(flooded):
    """U18: in a flood of spoofed UDP clients, the table stays at its cap, and over 99 % of real queries are answered."""
    bed, daemon = flooded
    # Each new client costs a session; its share of the capacity is what new clients can be served, not packets.
    (worker,) = daemon.workers()
    attack = flood(bed, 5300, 2000)
    time.sleep(2)
    before = resident(worker)
    asked, answered = real_clients(bed, 5300, 10)
    state = counters(daemon, "plain")
    attack.kill()
    # One less where the counters were read between the end of one session and the beginning of the next.
    assert TABLE - 1 <= state["sessions"] <= TABLE
    assert state["evicted"] > 2 * TABLE
    assert state["no_descriptor"] == 0
    assert answered > 0.99 * asked, (asked, answered, state)
    assert resident(worker) < before + (16 << 20)
    assert daemon.workers() == [worker]


# The flood itself, run in the client's namespace.


def query(number: int) -> bytes:
    """Return a query that the name servers answer."""
    label = f"h{number % 400}".encode()
    return (
        struct.pack(">HHHHHH", number % 65536, 0x0100, 1, 0, 0, 0)
        + bytes([len(label)])
        + label
        + b"\x07example\x03net\0\0\x01\0\x01"
    )


def main(address: str, port: str, rate: str, sources: str, longest: str) -> None:
    """Send one query from each of many sources to `address`, `rate` a second; print how many."""
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    there = socket.inet_aton(address)
    first = int.from_bytes(socket.inet_aton(SPOOFED.partition("/")[0]), "big")
    rng = random.Random(1)
    began = time.monotonic()
    sent = 0
    while sent < int(sources) and (now := time.monotonic()) < began + float(longest):
        while sent < min(int(sources), (now - began) * float(rate)):
            payload = query(sent)
            udp = struct.pack(">HHHH", rng.randrange(1024, 65536), int(port), 8 + len(payload), 0) + payload
            # The kernel fills in length, ID and checksum of the IP header; a UDP checksum of 0 is none.
            ip = struct.pack(">BBHHHBBH", 0x45, 0, 0, 0, 0, 64, 17, 0) + (first + sent).to_bytes(4, "big") + there
            raw.sendto(ip + udp, (address, 0))
            sent += 1
        time.sleep(0.001)
    print(sent)


if __name__ == "__main__":
    main(*sys.argv[1:])
