"""Listings of open connections in portions, in a relay with real connections."""

import time
from contextlib import ExitStack

import pytest

from proxy.relay.observe import listing
from proxy.relay.observe.wanted import Wanted
from tests.proxy.relay.conftest import eventually
from tests.proxy.relay.streams import connect, listen, reset, where


@pytest.fixture
def opened(relay):
    """Open some connections to a service."""
    with ExitStack() as stack:
        server = stack.enter_context(listen())
        address = relay.service([where(server)])
        relay.start()

        def some(count):
            made = [stack.enter_context(connect(address)) for _ in range(count)]
            eventually(lambda: relay.counter("sessions") == count)
            return made

        yield some


def pages(relay, wanted, *, reset=False):
    """Return every page of a listing."""
    found = [relay.call(lambda: relay.engine.browse(1, wanted, reset=reset))]
    while found[-1][2]:
        found.append(relay.call(lambda: relay.engine.browse(1, None, reset=reset)))
    return found


def test_portions(relay, opened, monkeypatch):
    """No page has more rows than its bound; together they have each connection once."""
    monkeypatch.setattr(listing, "ROWS", 7)
    socks = opened(30)
    found = pages(relay, Wanted("", "", ""))
    assert max(len(rows) for rows, _, _ in found) == 7
    assert sorted(row["client"] for rows, _, _ in found for row in rows) == sorted(
        "{}:{}".format(*sock.getsockname()) for sock in socks
    )


def test_what_fits_nothing_is_bounded_too(relay, opened, monkeypatch):
    """A page looks at no more than its bound, even if nothing fits."""
    monkeypatch.setattr(listing, "SCAN", 10)
    opened(30)
    assert [met for _, met, _ in pages(relay, Wanted("", "192.0.2.0/24", ""))] == [0, 0, 0, 0]


def test_what_ends_meanwhile_is_passed_over(relay, opened, monkeypatch):
    """Connections that ended after the first page are neither shown nor ended, and counted, a second time."""
    monkeypatch.setattr(listing, "ROWS", 10)
    socks = opened(30)
    _, met, more = relay.call(lambda: relay.engine.browse(1, Wanted("", "", ""), reset=True))
    assert (met, more, relay.counter("disconnected")) == (10, True, 10)
    for sock in socks:
        reset(sock)
    eventually(lambda: relay.counter("sessions") == 0)
    assert relay.call(lambda: relay.engine.browse(1, None, reset=True)) == ([], 0, False)
    assert relay.counter("disconnected") == 10


def test_abandoned_listings(relay, opened, monkeypatch):
    """Listings that are not continued are limited in number, and dropped after a while."""
    monkeypatch.setattr(listing, "ROWS", 1)
    opened(5)
    browser = relay.engine._browser
    for number in range(50):
        relay.call(lambda number=number: browser.page(number, Wanted("", "", ""), time.monotonic(), reset=False))
    assert len(browser._listings) == listing.LISTINGS
    relay.call(lambda: browser.expire(time.monotonic() + listing.PATIENCE + 1))
    assert not browser._listings
