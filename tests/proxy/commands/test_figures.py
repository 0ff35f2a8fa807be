"""Tests of what metrics show besides the status."""

import json
from types import SimpleNamespace

import pytest

from health.timing import BOUNDS
from proxy.commands.figures import MOVES, FigureCollector, encoded
from proxy.status.carried import Carried
from proxy.status.slices import finished
from proxy.status.snapshot import Snapshot
from proxy.web.reasons import WEB_REASONS

RUNS = [1] + [0] * len(BOUNDS)


def service(name, backends, protocol="plain", transport="udp"):
    return SimpleNamespace(
        name=name, protocol=protocol, listeners=[SimpleNamespace(transport=transport)],
        udp=SimpleNamespace(max_sessions=100), backends=[SimpleNamespace(name=one, probes=[SimpleNamespace(type="dns")]) for one in backends],
    )  # fmt: skip


@pytest.fixture
def parts():
    services = [service("dns", ["b0", "b1"], "dns"), service("syslog", ["b0"])]
    config = SimpleNamespace(services=services, vrrp=[SimpleNamespace(name="outside")])
    keys = {(one.name, backend.name): None for one in services for backend in one.backends}
    return SimpleNamespace(
        running=SimpleNamespace(config=config, backends=keys),
        prober=SimpleNamespace(timings={"dns/b0": [[0.5, 1.0, 3.0, *RUNS]], "dns/b1": [[0.5]]}, life=1),
        workers=SimpleNamespace(rows=lambda: [SimpleNamespace(restarts=2), SimpleNamespace(restarts=1)]),
        redundancy=SimpleNamespace(counters=(7, {"outside/4": {"conflicts": 2}, "outside/6": {"conflicts": 1}, "kernel": {}})),
        admins=SimpleNamespace(rows=lambda: [{"at": 0.0}]), membership=SimpleNamespace(rows=lambda: [{"at": None}]),
    )  # fmt: skip


NOT_RUN = {"type": "dns", "seconds": 0.0, "buckets": [], "rejected": False, "lag": None}


@pytest.fixture
def carried():
    return Carried()


@pytest.fixture
def collector(parts, carried):
    return FigureCollector(parts, carried, SimpleNamespace(refused={"method": 4, "made up": 5}, life=1))


def snapshot():
    shown = {"services": [{"name": "syslog", "counters": {"sessions": 9, "connections": 2}}]}
    return Snapshot(shown, {0: {"open_files": 20, "open_files_limit": 100}}, {("dns", "b0"): {40: 3}}, {("dns", "b1")})


def test_all_figures(collector, carried):
    """Each figure is that of its part, and all of them are JSON."""
    carried.count((MOVES, "outside"))
    found = json.loads(finished(encoded(finished(collector.collected(snapshot())))))
    assert found["services"]["dns"] == {
        "udp_sessions": 0, "udp_sessions_limit": None,
        "backends": {
            "b0": {
                "standby": False,
                "latency": {"40": 3},
                "probes": [{"type": "dns", "seconds": 0.5, "buckets": RUNS, "rejected": True, "lag": 3.0}],
            },
            "b1": {"standby": True, "latency": {}, "probes": [NOT_RUN]},
        },
    }  # fmt: skip
    assert (found["services"]["syslog"]["udp_sessions"], found["services"]["syslog"]["udp_sessions_limit"]) == (7, 100)
    assert found["vrrp"] == {"outside": {"transitions": 1, "conflicts": 3}}
    assert found["worker_restarts"] == 3
    assert found["files"]["worker 0"] == [20, 100]
    assert found["files"]["master"][0] > 3
    assert found["override_age_s"] > 1e9
    assert found["web_refused"] == {reason: 4 if reason == "method" else 0 for reason in WEB_REASONS}


def test_lives_end(collector, parts):
    """R8: after the death of health, of vrrp or of herald, the figures go on from where they were."""
    finished(collector.collected(snapshot()))
    timings, parts.prober.timings = parts.prober.timings, {}
    found = finished(collector.collected(snapshot()))
    assert found["services"]["dns"]["backends"]["b0"]["probes"][0]["buckets"][0] == 1
    parts.prober.timings = timings
    parts.prober.life, parts.redundancy.counters = 2, (8, {"outside/4": {"conflicts": 1}})
    collector._herald = SimpleNamespace(refused={"not_found": 1}, life=2)
    found = finished(collector.collected(snapshot()))
    assert found["services"]["dns"]["backends"]["b0"]["probes"][0]["buckets"][0] == 2
    assert found["vrrp"]["outside"]["conflicts"] == 4
    assert (found["web_refused"]["method"], found["web_refused"]["not_found"]) == (4, 1)


def test_what_is_gone_is_forgotten(collector, parts, carried):
    """Counters of backends and routers that the file no longer has are dropped."""
    finished(collector.collected(snapshot()))
    parts.running.config.vrrp = []
    parts.running.backends.clear()
    parts.running.config.services = []
    found = finished(collector.collected(snapshot()))
    assert (found["services"], found["vrrp"]) == ({}, {})
    assert {row[0][0] for row in carried.rows()} == {"worker restarts", "web refused"}
