"""What the status shows of a backend."""

from health.spec import ScriptProbe, TcpProbe
from proxy.backends.shown import shown
from proxy.status.rows import Verdict

TCP, TLS = TcpProbe(port=143), TcpProbe(port=993)
REPORT = TcpProbe(port=25, report_only=True)
UP = Verdict("up", "connected in 1 ms", 1.0)
DOWN = Verdict("down", "connection refused (3 failures in a row)", 1.0)


def row(reason, *, ok=True, at=5.0):
    return {"type": "tcp", "ok": ok, "standby": False, "reason": reason, "latency_ms": 1.0, "at": at}


def reason(known, probes, *rows):
    return shown(known, probes, rows, None, serving=True).reason


def test_the_reason_is_the_last_probes():
    """H13: the reason is that of the last run, not of the one that changed the verdict."""
    script = ScriptProbe(command=("/bin/true",))
    assert reason(UP, [script], row("exit status 7: weight 5")) == "exit status 7: weight 5"
    assert reason(UP, [TCP], row("login refused", ok=False)) == "login refused"
    assert reason(DOWN, [TCP], row("no route to host", ok=False)) == "no route to host"


def test_where_nothing_else_was_found_since_it_says_how_often():
    """H13: as long as the last run found what changed the verdict, the reason says how often in a row it did."""
    assert reason(DOWN, [TCP], row("connection refused", ok=False)) == DOWN.reason
    assert reason(DOWN, [TCP], row("connection", ok=False)) == "connection"
    several = Verdict("down", "tcp 993: refused (3 failures in a row)", 1.0)
    assert reason(several, [TCP, TLS], row("in 1 ms"), row("refused", ok=False)) == several.reason


def test_of_several_those_that_speak_for_the_verdict():
    """H13, H15: of several probes those that speak for the verdict give its reason; those that only report give none."""
    probes = [TCP, TLS, REPORT]
    rows = [row("in 1 ms"), row("refused", ok=False), row("late", ok=False)]
    assert reason(DOWN, probes, *rows) == "tcp 993: refused"
    assert reason(UP, probes, *rows) == "tcp 143: in 1 ms"
    assert reason(UP, probes, row("no", ok=False), row("no", ok=False), rows[2]) == "tcp 143: no; tcp 993: no"
    assert reason(UP, [TCP, REPORT], *rows[::2]) == "in 1 ms"


def test_without_results_it_is_the_verdicts_own():
    """H13: where health has nothing to say, or the probes are others by now, the verdict's own reason is shown."""
    assert reason(UP, [TCP]) == "connected in 1 ms"
    assert reason(UP, [TCP, TLS], row("x")) == "connected in 1 ms"
    assert reason(UP, [TCP], row("not probed yet", at=None)) == "connected in 1 ms"


def test_an_ejected_backend():
    """A backend that real traffic fails on is shown down, with what its probes say."""
    one = shown(UP, [TCP], [row("in 1 ms")], "ejected", serving=False)
    assert (one.state, one.reason) == ("down", "ejected (probes: in 1 ms)")


def test_nothing_is_known():
    """A backend without verdict and result is not shown; one with a result is unknown."""
    assert shown(None, [TCP], [row("not probed yet", at=None)], None, serving=False) is None
    assert shown(None, [TCP], [row("x", ok=False)], None, serving=False).state == "unknown"


def test_who_serves_without_being_judged():
    """H13: a backend that serves although our own fault keeps us from judging it says both."""
    known = Verdict("unknown", "refused", 1.0, unjudged=True)
    assert shown(known, [TCP], [], None, serving=True).reason == "refused (not judged: taken as up)"
    assert shown(known, [TCP], [], None, serving=False).reason == "refused"
