"""Followers of beginnings and ends, in a relay with real connections."""

import contextlib
import time

import pytest

from proxy.relay.observe import follow
from proxy.relay.observe.wanted import Wanted
from tests.proxy.relay.conftest import eventually
from tests.proxy.relay.streams import connect, read


@pytest.fixture
def denied(relay):
    """Make clients of a service that denies all clients; each of them is one reported end."""
    address = relay.service([("127.0.0.1", 9)], deny=("0.0.0.0/0",))
    relay.start()

    def some(count):
        before = relay.counter("denied")
        for _ in range(count):
            with contextlib.suppress(ConnectionResetError), connect(address) as client:
                assert read(client) == (b"", "reset")
        eventually(lambda: relay.counter("denied") == before + count)

    return some


def test_what_is_too_much_is_dropped_and_counted(relay, denied, monkeypatch):
    """A follower gets at most its limit of rows at a time, and the number of dropped ones."""
    monkeypatch.setattr(follow, "ROWS", 3)
    monkeypatch.setattr(follow, "HAND_ON_PAUSE", 0.3)
    told = []
    relay.call(lambda: relay.engine.follow(1, Wanted("", "", ""), lambda *what: told.append(what)))
    denied(20)
    eventually(lambda: sum(len(rows) + lost for _, rows, lost in told) == 20)
    assert max(len(rows) for _, rows, _ in told) == 3
    assert {(row["event"], row["closed"]) for _, rows, _ in told for row in rows} == {("ended", "denied")}


def test_nobody_follows(relay, denied):
    """After the last follower has gone, the relays report nothing."""
    told = []
    relay.call(lambda: relay.engine.follow(1, Wanted("", "", ""), lambda *what: told.append(what)))
    relay.call(lambda: relay.engine.follow(1, None, lambda *what: told.append(what)))
    denied(2)
    time.sleep(2 * follow.HAND_ON_PAUSE)
    assert told == []
    assert all(one.followed is None for one in relay.engine._relays.values() if hasattr(one, "followed"))


def test_followers_are_few(relay, denied):
    """One too many takes the place of the oldest."""
    for number in range(20):
        relay.call(lambda number=number: relay.engine.follow(number, Wanted("", "", ""), lambda *what: None))
    assert list(relay.engine._followers._followers) == list(range(20 - follow.FOLLOWERS, 20))
