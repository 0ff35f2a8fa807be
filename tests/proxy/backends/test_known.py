"""proxy.backends.known: the states that programs are told of."""

from types import SimpleNamespace

from proxy.backends.choice import Candidate
from proxy.backends.known import states_of
from proxy.status.rows import Verdict


def bed(candidates, verdicts, *, looping=(), ejected=()):
    """Return a configuration in force and the candidates of its one service."""
    running = SimpleNamespace(backends={("a", one.name): SimpleNamespace(weight=7) for one in candidates})
    return running, SimpleNamespace(
        of=lambda _: candidates,
        verdicts={("a", name): one for name, one in verdicts.items()},
        looping={("a", name): "leads back to this host" for name in looping},
        ejected=lambda key: "5 errors in a row" if key[1] in ejected else None,
    )


def candidate(name, verdict, admin="ready"):
    return Candidate(name, 0, 2, verdict, admin)


def rows(able, *args, **more):
    """Return kind, name, state, number and reason of each state."""
    running, candidates = bed(*args, **more)
    return [(one.name, one.state, one.number, one.reason) for one in states_of(["a"], running, candidates, {"a": able})]


def test_states_are_those_of_the_status():
    """A service has a state once it is known whether it can serve; a backend has that of its probes, with the reason."""
    candidates = [candidate("x", "up"), candidate("y", "down"), candidate("z", "unknown")]
    verdicts = {"x": Verdict("up", "connected", 1.0), "y": Verdict("down", "refused", 1.0)}
    assert rows(True, candidates, verdicts) == [
        ("a", "serving", 1, "1 of 3 backends can serve"),
        ("a/x", "up", 2, "connected"),
        ("a/y", "down", 2, "refused"),
    ]
    assert rows(False, [candidate("y", "down")], verdicts)[0] == ("a", "refusing", 0, "0 of 1 backend can serve")


def test_what_is_not_known_is_not_told():
    """A service that cannot be judged, and a backend that counts as up without a verdict, have no state to tell."""
    unjudged = {"x": Verdict("unknown", "login refused", 1.0, unjudged=True)}
    assert rows("unjudged", [candidate("x", "up")], unjudged) == []
    assert rows(None, [candidate("x", "unknown", "maint")], {}) == []


def test_an_ejected_backend_is_down():
    """A backend that real traffic fails on, and one that leads back to this host, are down with that reason."""
    candidates = [candidate("x", "down"), candidate("y", "up")]
    verdicts = {"x": Verdict("up", "connected", 1.0), "y": Verdict("up", "connected", 1.0)}
    assert rows(True, candidates, verdicts, ejected=["x"], looping=["y"])[1:] == [
        ("a/x", "down", 2, "5 errors in a row"),
        ("a/y", "down", 7, "leads back to this host"),
    ]
