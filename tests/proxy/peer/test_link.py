"""The state of the link, and the pauses between tries."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.peer.link import FIRST_PAUSE, LONGEST_PAUSE, SILENT, STEADY, Backoff, Link


def test_the_states():
    """A link is new, connected, silent and connected again; each change says why, once."""
    link = Link(0.0)
    assert (link.state, link.why) == ("never", "no connection yet")
    assert link.lost("connection refused", 1.0) is None
    assert (link.state, link.why) == ("never", "connection refused")
    change = link.heard(2.0)
    assert (change.state, change.fault) == ("connected", False)
    assert link.heard(3.0) is None
    assert link.look(3.0 + SILENT - 0.1) is None
    change = link.look(3.0 + SILENT)
    assert (change.state, change.text, change.fault) == ("silent", "no sign of life for 4 s", True)
    assert link.look(20.0) is None
    assert link.heard(21.0).state == "connected"
    change = link.lost("the connection ended", 22.0)
    assert (change.state, change.text) == ("silent", "the connection ended")
    assert link.since == 22.0


def test_refusal():
    """A refusal is told once for each reason, stays until the peer is heard, and is not hidden by failed tries."""
    link = Link(0.0)
    assert link.lost("wrong certificate", 1.0, refused=True).state == "refused"
    assert link.lost("wrong certificate", 2.0, refused=True) is None
    assert link.lost("it calls itself lb9", 3.0, refused=True).text == "it calls itself lb9"
    assert link.lost("connection refused", 4.0) is None
    assert (link.state, link.why) == ("refused", "it calls itself lb9")
    assert link.heard(5.0).state == "connected"


@given(st.lists(st.floats(0, 30), max_size=30), st.floats(0, 1))
def test_pauses(lasted, chance):
    """Invariant: no pause is shorter than half the first or longer than the longest; a steady connection resets them."""
    backoff = Backoff(lambda: chance)
    for seconds in lasted:
        pause = backoff.failed(seconds)
        assert FIRST_PAUSE / 2 <= pause <= LONGEST_PAUSE
        if seconds >= STEADY:
            assert pause <= FIRST_PAUSE
