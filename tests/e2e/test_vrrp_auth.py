"""Signed adverts on the wire: which are sent and accepted in each mode, also after a restart."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from tests.e2e.bed import Bed
from tests.e2e.test_vrrp_runner import Owner, is_true
from tests.e2e.vrrp import VIP, pair
from vrrp import instance, packet
from vrrp.auth import Signer, Verifier
from vrrp.settings import AuthSettings

FIRST, SECOND, OTHER = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))
OURS, PEER = ip_address("198.51.100.2"), ip_address("198.51.100.3")
ADVERT = packet.Advert(3, 51, 200, (ip_address(VIP[4].partition("/")[0]),), 0.1)


@pytest.fixture
def bed() -> Iterator[Bed]:
    """Make two hosts on a LAN."""
    with pair(client=False) as made:
        yield made


class Peer:
    """Host b, driven by the test: it sends adverts with priority 200, and receives those of host a."""

    def __init__(self, bed):
        self._socket = bed.socket("b", socket.AF_INET, socket.SOCK_RAW, packet.PROTOCOL)
        self._socket.setblocking(False)
        self.sent = []

    def make(self, signer):
        """Return an advert, signed if the peer has a signer."""
        trailer = signer.trailer(packet.build(ADVERT, PEER, OURS), PEER, time.time()) if signer else b""
        return packet.build(ADVERT, PEER, OURS, trailer=trailer)

    async def say(self, adverts):
        """Send adverts, 20 ms apart."""
        for data in adverts:
            self.sent.append(data)
            self._socket.sendto(data, (str(OURS), 0))
            await asyncio.sleep(0.02)

    def heard(self):
        """Return the adverts that have arrived since the last call."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                datagram = packet.parse_ipv4(self._socket.recv(2000))
                if datagram.source == OURS:
                    found.append(datagram.payload)
        return found


class Memory:
    """The memory of a process that survives its death."""

    def __init__(self):
        self.document = None

    def load(self):
        """Return it."""
        return self.document

    def save(self, document):
        """Replace it."""
        self.document = document


def settings(mode="enforce", store=None):
    """Return the settings of the router in host a."""
    keys = ((1, FIRST), (2, SECOND))
    return {"store": store, "peers": (str(PEER),), "auth": AuthSettings(mode, keys), "priority": 150}


@pytest.mark.parametrize("mode", ["off", "receive-only", "permissive", "enforce"])
async def test_each_mode(bed, mode):
    """V21: each mode signs with the first key or does not sign, and accepts the right adverts."""
    signers = {"none": None, "first": Signer(1, FIRST), "second": Signer(2, SECOND), "wrong": Signer(1, OTHER)}
    believed = {
        "off": {"none", "first", "second", "wrong"},
        "receive-only": {"none", "first", "second"},
        "permissive": {"none", "first", "second"},
        "enforce": {"first", "second"},
    }
    peer = Peer(bed)
    async with Owner(bed, **settings(mode)) as owner:
        for kind, signer in signers.items():
            await is_true(lambda: owner.runner.is_active("outside"))
            await peer.say(peer.make(signer) for _ in range(3))
            assert owner.runner.is_active("outside") == (kind not in believed[mode]), kind
        await is_true(lambda: owner.runner.is_active("outside"))
        lengths = {len(data) for data in peer.heard()}
        assert lengths == ({40} if mode in {"permissive", "enforce"} else {12})
        counted = owner.runner.counters()["outside/4"]
        assert counted.get("auth_mac", 0) == (0 if mode == "off" else 3)
        assert counted.get("auth_missing", 0) == (3 if mode == "enforce" else 0)
        if mode == "enforce":  # each reason once a minute
            assert owner.told == [
                f"an advert from {PEER} was ignored: no signature",
                f"an advert from {PEER} was ignored: wrong signature",
            ]


async def test_a_restart_knows_what_was_recorded(bed):
    """V21: an advert that was recorded before a restart does not count after it; a new one does."""
    peer, store, signer = Peer(bed), Memory(), Signer(1, FIRST)
    async with Owner(bed, **settings(store=store)) as owner:
        await is_true(lambda: owner.runner.is_active("outside"))
        await peer.say(peer.make(signer) for _ in range(5))
        assert not owner.runner.is_active("outside")
    recorded = list(peer.sent)
    async with Owner(bed, **settings(store=store)) as owner:
        await is_true(lambda: owner.runner.is_active("outside"))
        await peer.say(recorded)
        assert owner.runner.is_active("outside")
        assert owner.runner.counters()["outside/4"]["auth_replay"] == 5
        await peer.say([peer.make(signer)])
        assert not owner.runner.is_active("outside")


async def test_a_clock_that_goes_back_moves_nothing(bed, monkeypatch):
    """V16, V21: adverts count while the sender's clock steps by an hour, and after a restart with its clock an hour back."""
    peer, store, verifier = Peer(bed), Memory(), Verifier({1: FIRST})
    steps = {"now": 0.0}
    wall = time.time
    monkeypatch.setattr(instance.time, "time", lambda: wall() + steps["now"])
    for life in ([0.0, 3600.0, 0.0], [-3600.0]):
        steps["now"] = life[0]
        async with Owner(bed, **settings(store=store)) as owner:
            await is_true(lambda: owner.runner.is_active("outside"))
            for step in life:
                steps["now"] = step
                await asyncio.sleep(0.3)
            assert owner.states == ["backup", "active"]
        heard = peer.heard()
        assert len(heard) > 3
        assert [verifier.check(data, OURS, wall()) for data in heard] == [None] * len(heard)
