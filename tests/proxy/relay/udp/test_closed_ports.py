"""Backends whose port was found closed."""

from proxy.relay.udp.closed_ports import CLOSED_PAUSE, ClosedPorts


def test_a_moment():
    """U7: a backend is left out for CLOSED_PAUSE after its last refusal, and then no longer, or until it is forgotten."""
    closed = ClosedPorts()
    assert not closed
    closed.note("a", 1.0)
    closed.note("b", 1.0)
    closed.note("a", 1.5)
    assert closed.targets(1.0 + CLOSED_PAUSE - 0.01) == ("a", "b")
    assert closed.targets(1.0 + CLOSED_PAUSE) == ("a",)
    closed.forget("a")
    closed.forget("c")
    assert closed.targets(1.6) == ()
    assert not closed
