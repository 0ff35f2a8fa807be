"""Claims of several processes: here of several objects in one, which do not know of one another."""

import asyncio
import contextlib
import json
import os
import socket
import time

import pytest

from vrrp import claims
from vrrp.claims import Claims

ONE, OTHER = ("vrrp-test0", 51, 4), ("vrrp-test0", 51, 6)


class Claimant:
    """A process with claims, and what it was told."""

    def __init__(self, *keys):
        self.lost, self.regained, self.taken = [], [], []
        self.claims = Claims(
            keys,
            on_lost=lambda key, pid: self.lost.append((key, pid)),
            on_regained=self.regained.append,
            on_taken=lambda keys, pid: self.taken.append((set(keys), pid)),
        )


@pytest.fixture
async def claimant(monkeypatch):
    """Return a function that makes claimants, whose sockets are closed at the end."""
    monkeypatch.setattr(claims, "PREFIX", f"steelyard-vrrp-test-{os.getpid()}/")
    made = []

    def make(*keys):
        made.append(Claimant(*keys))
        made[-1].claims.take()
        return made[-1]

    yield make
    for one in made:
        one.claims.close()


def fill(flood, name):
    """Send to a socket until it takes no more."""
    with contextlib.suppress(BlockingIOError):
        while True:
            flood.sendto(b"x", name)


def said_by_nobody(name, message):
    """Send a message as another user, from a socket under a name like ours; whether that could be done."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1] == 0
    try:
        os.setuid(65534)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.bind(f"\0{claims.PREFIX}{os.getpid()}-00000000")
            sender.sendto(message, name)
            os._exit(0)
    finally:
        os._exit(1)


async def is_true(condition):
    """Wait for a condition with the loop free to run."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def test_the_successor_has_it(claimant):
    """Of two that claim the same router the later one has it, and each is told which process the other is."""
    first = claimant(ONE, OTHER)
    assert first.claims.held(ONE)
    second = claimant(ONE)
    assert second.claims.held(ONE)
    assert not first.claims.held(ONE)
    assert first.claims.held(OTHER)
    assert not first.claims.all_lost
    await is_true(lambda: second.taken)
    assert (first.lost, second.taken) == ([(ONE, os.getpid())], [({ONE}, os.getpid())])
    assert (first.taken, second.lost) == ([], [])


async def test_many_routers(claimant):
    """A thousand routers are claimed as one is."""
    many = [(f"vrrp-test{number}", 51, 4) for number in range(1000)]
    first, second = claimant(*many), claimant(*many)
    assert not any(map(first.claims.held, many))
    assert all(map(second.claims.held, many))


async def test_a_message_is_found_before_the_loop_runs(claimant):
    """A process that wakes from a stop knows of its successor at its first look, before any callback."""
    first = claimant(ONE)
    claimant(ONE)
    assert not first.claims.held(ONE)
    assert first.lost == []
    assert first.claims.all_lost


async def test_other_routers_do_not_matter(claimant):
    """A claim of another interface, VRID or IP version takes nothing."""
    first = claimant(ONE)
    claimant(OTHER, ("vrrp-test1", 51, 4), ("vrrp-test0", 52, 4))
    await asyncio.sleep(0.02)
    assert first.claims.held(ONE)


async def test_what_was_taken_comes_back(claimant, monkeypatch):
    """A router whose new process is gone is claimed again by the one that lives."""
    monkeypatch.setattr(claims, "LOOK", 0.02)
    first = claimant(ONE)
    second = claimant(ONE)
    assert not first.claims.held(ONE)
    await is_true(lambda: second.taken)
    second.claims.close()
    await is_true(lambda: first.regained)
    assert first.claims.held(ONE)
    third = claimant(ONE)
    assert (first.claims.held(ONE), third.claims.held(ONE)) == (False, True)


async def test_a_full_socket_is_told_later(claimant, monkeypatch):
    """A process whose socket is full, as of one that is stopped, learns of its successor as soon as there is room."""
    monkeypatch.setattr(claims, "AGAIN", 0.01)
    first = claimant(ONE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as flood:
        fill(flood, first.claims._name)
    second = claimant(ONE)
    first.claims.held(ONE)  # reads what is there, and makes room
    await is_true(lambda: not first.claims.held(ONE))
    assert second.claims.held(ONE)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"x",
        b"[]",
        b"{}",
        b'{"number": [1]}',
        b'{"number": 5, "claims": []}',
        b'{"number": [9e18, 0], "claims": 7}',
        b"\xff",
    ],
)
async def test_nonsense_takes_nothing(claimant, message):
    """A message that is none is counted, and takes nothing."""
    first = claimant(ONE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.bind("")  # a name that the kernel chooses
        sender.sendto(message, first.claims._name)
    assert first.claims.held(ONE)
    assert first.claims.ignored == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed")
async def test_another_user_takes_nothing(claimant):
    """S1: a message of another user is counted, and takes nothing; its socket under our name is no harm."""
    first = claimant(ONE)
    message = json.dumps({"number": [time.monotonic_ns() + 10**12, 0], "claims": [list(ONE)]}).encode()
    if not said_by_nobody(first.claims._name, message):
        pytest.skip("this user namespace has no other user")
    second = claimant(OTHER)
    assert first.claims.held(ONE)
    assert first.claims.ignored == 1
    assert second.claims.held(OTHER)


async def test_claims_change(claimant):
    """A router that is claimed later is taken from the process that had it, the others stay, and one given up is free."""
    first = claimant(ONE)
    second = claimant(OTHER)
    second.claims.change([OTHER, ONE])
    assert not first.claims.held(ONE)
    assert second.claims.held(ONE)
    assert first.claims.all_lost
    first.claims.change([OTHER])
    assert first.claims.held(OTHER)
    assert not second.claims.held(OTHER)
    await is_true(lambda: second.lost == [(OTHER, os.getpid())])
    assert second.claims.held(ONE)


async def test_a_later_claim_of_another_router_changes_nothing(claimant):
    """A process that claims one more router does not get back by that what another process took from it."""
    first = claimant(ONE)
    claimant(ONE)
    first.claims.change([ONE, OTHER])
    assert not first.claims.held(ONE)
    assert first.claims.held(OTHER)
