"""proxy.dashboard.history: what changed from snapshot to snapshot."""

import copy

from proxy.dashboard.history import CURVE, RESULTS, WINDOW, History, service_latency
from proxy.moments import rfc3339, unix
from tests.proxy.dashboard.lively import NOW, lively


def test_errors_need_two_looks():
    """Errors a second are a difference: before the second look they are not known, then they are exact."""
    history = History()
    history.take(lively(0, NOW), 100.0)
    assert history.errors("smtp", "10.0.0.51") is None
    history.take(lively(2, NOW + 2), 102.0)
    assert history.errors("smtp", "10.0.0.51") == 3.0
    assert history.errors("smtp") == 7.0  # with the four clients a second that the service refused
    assert history.errors("dns", "10.0.0.11") == 0.0


def test_a_restart_of_the_daemon_makes_no_errors():
    """Counters that begin anew are no negative rate: the next difference counts."""
    history = History()
    for now, at in ((0.0, 50), (1.0, 0), (2.0, 1)):
        history.take(lively(at, NOW), now)
    assert history.errors("smtp", "10.0.0.51") == 3.0


def test_old_errors_fade():
    """Errors count for the last looks alone."""
    history = History()
    for at in range(WINDOW + 2):
        history.take(lively(min(at, 1), NOW), float(at))
    assert history.errors("smtp", "10.0.0.51") == 0.0


def test_results_are_kept_once_each():
    """A result that stands in two snapshots is one result; two probes of one type are two histories."""
    history, status = History(), lively(0, NOW)
    probes = status["services"][0]["backends"][0]["probes"]
    probes.append({**probes[0], "at": rfc3339(unix(probes[0]["at"]) - 5), "ok": False})
    history.take(status, 0.0)
    history.take(copy.deepcopy(status), 1.0)
    assert [(one.number, one.ok) for one in history.results("dns", "10.0.0.11")] == [(1, False), (0, True)]
    probes[1]["at"] = rfc3339(unix(probes[1]["at"]) + 2)
    history.take(status, 2.0)
    assert [one.number for one in history.results("dns", "10.0.0.11")] == [1, 1, 0]


def test_memory_is_bounded():
    """However long it looks, a history keeps so many looks, and nothing of what is gone."""
    history = History()
    for at in range(CURVE + RESULTS):
        history.take(lively(at, NOW + at), float(at))
    assert len(history.rates("dns")) == len(history.latencies("dns", "10.0.0.11")[0]) == CURVE
    assert len(history.results("dns", "10.0.0.11")) == RESULTS
    status = lively(0, NOW)
    del status["services"][1:]
    history.take(status, 1e6)
    assert history.rates("ldap") == history.rates("ldap", "10.0.0.21") == ()
    assert history.results("ldap", "10.0.0.21") == ()
    assert history.errors("ldap") is None


def test_the_latency_of_a_service(make):
    """Its p50 is the one of most of its traffic, and its p99 the worst of its backends: no less than its own."""
    one = make.backend("a", "up", rate=10.0, latency_ms={"p50": 1.0, "p99": 5.0})
    two = make.backend("b", "up", rate=90.0, latency_ms={"p50": 3.0, "p99": 4.0})
    idle = make.backend("c", "up")
    service = make.status(one, two, idle)["services"][0]
    assert service_latency(service) == (3.0, 5.0)
    service["backends"] = [idle]
    assert service_latency(service) == (None, None)
    one["rate"] = 0.0
    service["backends"] = [one]
    assert service_latency(service) == (1.0, 5.0)
