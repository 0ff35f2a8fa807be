"""proxy.dashboard.judging: words, signs and styles of states, and what is worse than what."""

import pytest

from proxy.dashboard.history import History
from proxy.dashboard.judging import of_backend, of_state, rank, reason, troubled, unit, usable
from proxy.dashboard.text import UNICODE


def test_no_meaning_is_in_the_colour_alone():
    """Every state has a word, and states of another meaning another sign."""
    states = ("up", "degraded", "down", "unknown")
    assert [of_state(state, UNICODE).words for state in states] == list(states)
    assert len({of_state(state, UNICODE).sign for state in states}) == 4
    assert of_state("a state of a later version", UNICODE).words == "a state of a later version"


def test_an_operators_word_comes_first(make):
    """A drained backend says so, beside the sign of what its probes say."""
    status = make.status(make.backend("a", "up"))
    service = status["services"][0]
    assert of_backend(make.backend("a", "up", admin="drain"), service, UNICODE)[:2] == ("●", "drain")
    assert of_backend(make.backend("a", "down", admin="drain"), service, UNICODE)[:2] == ("✖", "drain, down")
    assert of_backend(make.backend("a", "unknown", admin="maint"), service, UNICODE)[:2] == ("?", "maint")


def test_what_does_not_count_does_not_alarm(make):
    """A backend that is down in a service that is up, as a replica where a writer is wanted, is shown calmly."""
    down = make.backend("a", "down")
    assert of_backend(down, make.status(down)["services"][0], UNICODE).style == "dim"
    assert of_backend(down, make.status(down, state="degraded")["services"][0], UNICODE).style == "bad"


def test_the_worst_is_first(make):
    """Down is worse than unknown, that than unusable, that than a failing probe, that than errors; an operator knows."""
    failing = {"type": "tcp", "ok": False, "reason": "", "latency_ms": None, "at": 1.0}
    backends = [
        make.backend("down", "down"),
        make.backend("unknown", "unknown"),
        make.backend("unusable", "up", effective_weight=0),
        make.backend("failing", "up", probes=[failing]),
        make.backend("errors", "up"),
        make.backend("drained", "down", admin="drain"),
        make.backend("fine", "up"),
    ]
    history = History()
    for now in (0.0, 1.0):
        backends[4]["errors"] = {"reset": int(now)}
        history.take(make.status(*backends, state="degraded"), now)
    service = make.status(*backends, state="degraded")["services"][0]
    ranks = [rank(one, service, history) for one in backends]
    assert ranks == sorted(set(ranks))


def test_why(make):
    """The reason is the one of the last probe, behind who took the backend out and why."""
    drained = make.backend("a", "up", reason="connected", admin="drain", admin_by="uid 0", admin_reason="disks")
    assert reason(drained) == "drain by uid 0: disks; connected"
    assert reason(make.backend("a", "down", reason="connection refused")) == "connection refused"


def test_usable_and_troubled(make):
    """Usable is what gets new clients; trouble is all that is not simply up."""
    fine, drained = make.backend("a", "up"), make.backend("b", "up", admin="drain", effective_weight=0)
    service = make.status(fine, drained)["services"][0]
    assert usable(service) == 1
    assert [troubled(one) for one in (fine, drained, make.backend("c", "down"))] == [False, True, True]


@pytest.mark.parametrize(
    ("protocol", "listen", "what"),
    [
        ("dns", ["10.0.0.10:53/udp"], "q/s"),
        ("plain", ["10.0.0.10:514/udp"], "s/s"),
        ("plain", ["10.0.0.10:25/tcp"], "c/s"),
    ],
)
def test_what_is_counted(make, protocol, listen, what):
    """DNS counts queries, UDP sessions, TCP connections."""
    assert unit({**make.status()["services"][0], "protocol": protocol, "listen": listen}) == what
