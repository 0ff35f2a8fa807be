"""The selectors for no usable backend and for one."""

from proxy.balance.trivial import Nobody, Only


def test_nobody():
    """With no usable backend there are no members and every pick is None."""
    assert Nobody().backends == ()
    assert Nobody().pick(5) is None


def test_only(make):
    """A single backend gets everything, and nothing once it was tried."""
    one, stranger = make([1, 1])
    selector = Only(one)
    assert selector.backends == (one,)
    assert selector.pick() is selector.pick(7, (stranger,)) is one
    assert selector.pick(0, [one]) is None


def test_they_ask_nothing_of_the_relay(make):
    """They need neither keys nor changes, and accept changes."""
    selector = Only(make([1])[0])
    assert not selector.needs_key
    assert not selector.needs_changes
    selector.changed(selector.backends[0])
    selector.refreshed()
