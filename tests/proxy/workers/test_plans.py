"""Tests of what the children are told to do."""

import json

import pytest

from health.monitor import Target
from health.spec import PingProbe
from proxy.backends import targets
from proxy.backends.effective import Running
from proxy.config.loader import load
from proxy.healthd import target
from proxy.host import descriptors
from proxy.relay.plan import PersistencePlan, from_tree, to_tree
from proxy.stats.layout import Layout
from proxy.stats.slots import Slots
from proxy.status.rows import Verdict
from proxy.workers import plans

FILE = """
[node]
name = "n"
workers = 3
max-connections = 100
[service.dns]
listen = ["127.0.0.1:5353/udp", "127.0.0.1:5353/tcp"]
protocol = "dns"
backends = ["192.0.2.1", {{ name = "b", address = "2001:db8::1", port = 54, weight = 2 }}]
probe = {{ type = "dns", query = "example.net SOA" }}
[service.web]
listen = ["127.0.0.1:8080/tcp"]
backends = ["192.0.2.2"]
backend-defaults = {{ max-connections = 7, slow-start = "10s" }}
queue.size = 9
max-connections = 50
max-connections-per-client = 5
rate-per-client = "30/m"
eject = {{ errors = 6, time = "20s" }}
tcp.idle-timeout = "never"
udp.max-sessions = 100
persistence = {{ timeout = "5m", ipv6-prefix = 64 }}
"""


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "steelyard.toml"
    file.write_text(FILE.format())
    return load(file)


@pytest.fixture
def running(config):
    return Running(config, Slots(16), Slots(64))


def test_a_plan_travels(config, running):
    """A plan comes out of JSON as it went in, with infinite durations, and shares the daemon's bounds between workers."""
    plan = plans.plan(running, 1, Layout(16, 64), 20_000)
    assert from_tree(json.loads(json.dumps(to_tree(plan)))) == plan
    dns, web = plan.services
    assert [(b.slot, b.address, b.port, b.weight, b.state) for b in dns.backends] == [
        (0, "192.0.2.1", None, 1, "unknown"),
        (1, "2001:db8::1", 54, 2, "unknown"),
    ]
    assert web.tcp.idle_timeout == float("inf")
    assert web.backends[0].max_connections == 7
    assert (web.limits.queue_size, web.limits.queue_timeout) == (9, web.tcp.connect_timeout)
    assert (web.limits.connections, web.limits.per_client) == (50, 5)
    assert (dns.persistence, web.persistence) == (None, PersistencePlan(300.0, 32, 64))
    assert (web.limits.rate, dns.limits.rate) == (0.5, 0.0)
    assert (web.limits.errors, web.limits.errors_within) == (6, 20.0)
    assert (dns.weight_scale, web.weight_scale) == (1, 10)
    assert [backend.weight for backend in web.backends] == [10]
    assert dns.tcp.idle_timeout == config.services[0].dns.idle_timeout
    assert plan.max_connections == 34
    assert web.udp.max_sessions == 34


@pytest.mark.parametrize(
    ("connections", "outstanding", "most"), [(0, 0, 0), (7, 0, 7), (0, 9, 9), (7, 9, 7), (9, 7, 7)]
)
def test_the_smaller_limit_applies(running, connections, outstanding, most):
    """T21: what may be open on a backend is the smaller of its limits, and unlimited without any."""
    backend = running.config.services[0].backends[0]
    limited = backend.model_copy(update={"max_connections": connections, "max_outstanding": outstanding})
    assert plans.limit(limited) == most


def test_weights_in_effect(running):
    """T24: a plan has the weights that are told with it, as the workers count them, and else the file's, scaled."""
    dns, web = running.config.services
    assert [one.weight for one in plans.service_plan(web, running).backends] == [10]
    assert [one.weight for one in plans.service_plan(web, running, {"192.0.2.2": 3}).backends] == [3]
    assert [one.weight for one in plans.service_plan(dns, running, {"b": 0}).backends] == [1, 0]


def test_most_connections(config):
    """T20: a worker accepts what its descriptors allow, less its pipes and what else it needs, and no more than its share."""
    assert descriptors.most_connections(config, descriptors.least_files(config)) == descriptors.LEAST_CONNECTIONS
    assert descriptors.most_connections(config, 20_000) == 34
    assert descriptors.most_connections(config, 100) == 1
    unbounded = config.model_copy(update={"node": config.node.model_copy(update={"max_connections": None})})
    assert descriptors.most_connections(unbounded, 20_000) == (20_000 - descriptors.SPARE_FILES - 2 * 64 - 9) // 2


def test_targets_carry_what_is_known(running):
    """H2: health is told the last verdict of each backend, so that its restart forgets none."""
    known = {("dns", "b"): Verdict("down", "no answer", 1.0)}
    rows = json.loads(json.dumps(targets.targets(running, known, {})))
    found = [target(row) for row in rows]
    assert all(isinstance(one, Target) for one in found)
    assert [(one.key, one.address, one.port, one.state) for one in found] == [
        ("dns/192.0.2.1", "192.0.2.1", 5353, "unknown"),
        ("dns/b", "2001:db8::1", 54, "down"),
        ("web/192.0.2.2", "192.0.2.2", 8080, "unknown"),
    ]
    assert [probe.type for probe in found[0].probes] == ["dns"]


def test_tracked_probes_are_targets(config):
    """V11: a probe that a router tracks is watched by its name, belongs to no service, and keeps what is known of it."""
    probe = PingProbe(address="198.51.100.1")
    running = Running(config.model_copy(update={"probes": {"gateway": probe}}), Slots(16), Slots(64))
    known = {"gateway": Verdict("down", "no echo reply", 1.0)}
    found = target(json.loads(json.dumps(targets.targets(running, {}, known)[-1])))
    assert (found.key, found.address, found.service, found.state) == ("probe gateway", "198.51.100.1", "", "down")
    assert found.probes == (probe,)
