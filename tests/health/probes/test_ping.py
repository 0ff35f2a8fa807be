"""The ping probe, on real sockets: raw ones as root, datagram ones in a namespace that allows them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from health import icmp
from health.probes import attempt_once, make
from health.probes.base import Attempt, OurFault
from health.spec import PingProbe


def _may(version: int) -> bool:
    try:
        icmp.open_raw(version).close()
    except OSError:
        return False
    return True


raw = pytest.mark.skipif(not _may(4), reason="needs CAP_NET_RAW")
namespaces = pytest.mark.skipif(
    shutil.which("unshare") is None or os.geteuid() != 0, reason="needs root for a namespace"
)

IN_NAMESPACE = """
import asyncio, sys
from health.probes import load_all, run_once
from health.spec import PingProbe
from proxy.host import privileges
load_all()
privileges.drop(65534, 65534)
async def main():
    for address in sys.argv[1:]:
        outcome, lines = await run_once(PingProbe(timeout=0.5), address, 0)
        print(outcome.ok, outcome.reason.partition(" in ")[0])
asyncio.run(main())
"""


def in_namespace(groups: str, *addresses: str) -> list[str]:
    """Ping in a network namespace whose ping_group_range is `groups`, without capabilities.

    As a child of Steelyard does: it imports first, as the other user may be unable to read the checkout.
    """
    inner = f"ip link set lo up; echo '{groups}' > /proc/sys/net/ipv4/ping_group_range; exec \"$@\""
    command = ["unshare", "-n", "sh", "-c", inner, "sh", sys.executable, "-c", IN_NAMESPACE, *addresses]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@namespaces
def test_datagram_sockets() -> None:
    """A process without privileges pings over IPv4 and IPv6 where ping_group_range allows; errors fail at once (H3)."""
    found = in_namespace("0 2147483647", "127.0.0.1", "::1", "192.0.2.1", "2001:db8::1")
    assert found == ["True answered", "True answered", "False network unreachable", "False network unreachable"]


@namespaces
def test_not_allowed() -> None:
    """Where nothing allows a ping, that is this host's fault and no verdict."""
    assert in_namespace("1 0", "127.0.0.1") == [
        "False could not probe: this process may not ping: net.ipv4.ping_group_range excludes its group"
    ]


@raw
@pytest.mark.parametrize(("version", "address"), [(4, "127.0.0.1"), (6, "::1")])
async def test_raw_sockets_that_were_handed_over(monkeypatch, leftovers, version: int, address: str) -> None:
    """A raw socket that somebody with the right opened carries the pings of a process that may open none."""
    monkeypatch.setattr(Attempt, "connect_icmp", lambda _: None)
    echoes = icmp.Echoes()
    echoes.adopt(icmp.open_raw(version))
    leftovers.mark()
    outcome, lines = await attempt_once(make(PingProbe(), None, echoes), address, 443)
    assert outcome.ok, outcome.reason
    assert lines[0] == f"-> ICMP echo request to {address}"
    await leftovers.check()
    echoes.close()


@raw
async def test_replies_of_others_do_not_count(monkeypatch) -> None:
    """S9: a reply with another payload, or from another host, is no answer; the probe waits on to its timeout."""
    monkeypatch.setattr(Attempt, "connect_icmp", lambda _: None)
    echoes = icmp.Echoes()
    echoes.adopt(icmp.open_raw(4))
    monkeypatch.setattr(icmp, "read", _altered(icmp.read))
    outcome, _ = await attempt_once(make(PingProbe(timeout=0.1), None, echoes), "127.0.0.1", 0)
    assert (outcome.ok, outcome.reason) == (False, "no echo reply within 0.1 s")
    echoes.close()


def _altered(read: object) -> object:
    def reading(version: int, data: bytes) -> icmp.Heard | None:
        return read(version, data[:-1] + b"?") if data else None

    return reading


@raw
@pytest.mark.parametrize("handed", [True, False])
async def test_cancelled_at_each_await(monkeypatch, leftovers, cancelled_at, handed: bool) -> None:
    """H4: a run that is cancelled during its wait leaves no descriptor, no watched descriptor and no waiter behind."""
    monkeypatch.setattr(Attempt, "connect_icmp", lambda _: None)
    echoes = icmp.Echoes()
    if handed:
        echoes.adopt(icmp.open_raw(4))
    leftovers.mark()
    assert await cancelled_at(lambda: attempt_once(make(PingProbe(), None, echoes), "127.0.0.1", 0), leftovers) == 1
    assert echoes._waiting == {}
    echoes.close()


SHORT, WRONG = b"\0\0", icmp.HEADER.pack(0, 0, 0, 1, 1) + bytes(icmp.PAYLOAD)


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ([], "no echo reply within 0.2 s"),
        ([b""] * 5, "no echo reply within 0.2 s"),
        ([SHORT, WRONG, bytes(range(256))], "no echo reply within 0.2 s"),
        ([WRONG * 80] * 40, "sends data without end: 64 KiB read"),
    ],
)
async def test_hostile_hosts(monkeypatch, udp_server, leftovers, replies: list[bytes], reason: str) -> None:
    """H4, H13, S9: whatever messages a host sends back, a ping ends by its timeout, in words, and leaves nothing open."""
    monkeypatch.setattr(
        Attempt, "connect_icmp", Attempt.connect_udp
    )  # the same kind of socket, by which anything can come
    _, port = await udp_server(lambda _: replies)
    leftovers.mark()
    outcome, lines = await attempt_once(make(PingProbe(timeout=0.2)), "127.0.0.1", port)
    assert (outcome.ok, outcome.reason) == (False, reason)
    assert len(lines) < 5
    await leftovers.check()


async def test_cancelled_with_a_socket_of_its_own(monkeypatch, udp_server, leftovers, cancelled_at) -> None:
    """H4: cancelled at its wait on a datagram socket, a run leaves no descriptor and no watched descriptor behind."""
    monkeypatch.setattr(Attempt, "connect_icmp", Attempt.connect_udp)
    _, port = await udp_server(lambda request: [icmp.HEADER.pack(0, 0, *request_ident(request)) + request[8:]])
    leftovers.mark()
    assert await cancelled_at(lambda: attempt_once(make(PingProbe()), "127.0.0.1", port), leftovers) == 1


def request_ident(request: bytes) -> tuple[int, int, int]:
    """Return the checksum, identifier and sequence of a request."""
    _, _, *rest = icmp.HEADER.unpack_from(request)
    return tuple(rest)


async def test_without_any_socket(monkeypatch, leftovers) -> None:
    """H13: a ping that cannot be sent at all says why, and is no verdict."""

    def refused(_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(Attempt, "connect_icmp", lambda _: None)
    monkeypatch.setattr(icmp, "open_raw", refused)
    with pytest.raises(OurFault, match="this process may not ping"):
        await attempt_once(make(PingProbe()), "127.0.0.1", 0)
    await leftovers.check()
