"""Tests of what decides who serves, by backend; what follows from it is in the tests of the choice and of readiness."""

import pytest

from proxy.backends.candidates import Candidates
from proxy.backends.effective import Running
from proxy.config.loader import load
from proxy.stats.slots import Slots
from proxy.status.rows import Verdict

FILE = """
[node]
name = "n"
workers = 1
[service.a]
listen = ["127.0.0.1:53/udp"]
backends = ["192.0.2.11", { address = "192.0.2.12", weight = 5 }]
probe = { type = "none" }
"""
FIRST, SECOND = ("a", "192.0.2.11"), ("a", "192.0.2.12")


@pytest.fixture
def candidates(tmp_path):
    path = tmp_path / "steelyard.toml"
    path.write_text(FILE)
    return Candidates(Running(load(path), Slots(16), Slots(64)), lambda _: "ready")


def states(candidates):
    """Return the verdict and the admin state of each candidate."""
    return [(one.verdict, one.admin) for one in candidates.of("a")]


def test_an_unjudged_backend_counts_as_up_later(candidates):
    """H8: a backend that our own fault keeps from a verdict is unknown at first, and up once first verdicts are late."""
    candidates.verdicts[FIRST] = Verdict("unknown", "login refused", 1.0, unjudged=True)
    assert states(candidates) == [("unknown", "ready"), ("unknown", "ready")]
    candidates.late = True
    assert states(candidates) == [("up", "ready"), ("unknown", "ready")]
    assert candidates.is_able("a") == "unjudged"


def test_an_ejected_backend_counts_as_down(candidates):
    """An ejected backend counts as down, and as up where the question is who could serve without ejections."""
    candidates.verdicts[FIRST] = Verdict("up", "because", 1.0)
    candidates.ejected = lambda key: "ejected" if key == FIRST else None
    assert states(candidates)[0] == ("down", "ready")
    assert candidates.usable("a") == ["192.0.2.11"]
    assert [one.verdict for one in candidates.without([FIRST], "a")] == ["up", "unknown"]


def test_a_backend_that_leads_back_is_in_maintenance(candidates):
    """A backend that leads back to this host is no candidate, whatever its verdict."""
    candidates.verdicts[FIRST] = Verdict("up", "because", 1.0)
    candidates.looping = {FIRST: "it is a listener of this host"}
    assert states(candidates)[0] == ("up", "maint")
    assert candidates.usable("a") == []


def test_the_weight_that_a_probe_asks_for(candidates):
    """The weight of a probe's script holds over the file's, and an operator's over both."""
    candidates.verdicts[SECOND] = Verdict("up", "because", 1.0, weight=9)
    assert (candidates.weight(FIRST), candidates.weight(SECOND)) == (1, 9)
    candidates._running.weighed.add(SECOND)
    assert candidates.weight(SECOND) == 5


def test_a_backend_that_the_other_host_sees_up_stays(candidates):
    """A backend that is down here and up at the other host is a candidate, but does not make this host able."""
    candidates.verdicts |= {FIRST: Verdict("down", "no answer", 1.0), SECOND: Verdict("down", "no answer", 1.0)}
    assert candidates.is_able("a") is False
    candidates.held = lambda key: key == FIRST
    assert states(candidates) == [("up", "ready"), ("down", "ready")]
    assert candidates.is_able("a") is False
    candidates.verdicts[SECOND] = Verdict("up", "answers", 1.0)
    assert candidates.is_able("a") is True


def test_the_other_host_puts_nothing_up(candidates):
    """What the other host sees makes no backend up that has no verdict here, and none down."""
    candidates.verdicts[FIRST] = Verdict("up", "answers", 1.0)
    candidates.held = lambda _: True
    assert states(candidates) == [("up", "ready"), ("unknown", "ready")]
    candidates.held = lambda _: False
    assert states(candidates) == [("up", "ready"), ("unknown", "ready")]
