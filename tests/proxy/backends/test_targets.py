"""The targets that health probes."""

import pytest

from proxy.backends.effective import Running
from proxy.backends.targets import TRACKED, Made, targets
from proxy.config.loader import load
from proxy.stats.slots import Slots
from proxy.status.rows import Verdict

FILE = """
[node]
name = "n"
[service.a]
listen = ["127.0.0.1:8080/tcp"]
backends = ["192.0.2.1", "192.0.2.2"]
[service.b]
listen = ["127.0.0.1:8081/tcp"]
backends = ["192.0.2.1"]
[vrrp.one]
interface = "eth0"
vrid = 7
addresses = ["192.0.2.9"]
members = { n = "192.0.2.7", m = "192.0.2.8" }
track = [{ probe = "gateway", penalty = 10 }]
[probe.gateway]
type = "tcp"
address = "192.0.2.254"
port = 80
"""


@pytest.fixture
def running(tmp_path):
    path = tmp_path / "f.toml"
    path.write_text(FILE)
    return Running(load(path), Slots(16), Slots(64))


def test_each_backend_and_tracked_probe_is_a_target(running):
    """A target has its backend's probes and the verdict that is known; a backend in maintenance is none."""
    known = {("a", "192.0.2.1"): Verdict("down", "refused", 1.0)}
    found = targets(running, known, {"gateway": Verdict("up", "open", 1.0)}, [("a", "192.0.2.2")])
    assert [(one["key"], one["state"], one["port"]) for one in found] == [
        ("a/192.0.2.1", "down", 8080),
        ("b/192.0.2.1", "unknown", 8081),
        (f"{TRACKED}gateway", "up", 80),
    ]
    assert [probe["type"] for probe in found[0]["probes"]] == ["tcp"]


def test_what_is_remembered_is_right(running):
    """With the targets of the last call the list is the same as without, also after a backend has changed or gone."""
    made = Made()

    def check():
        assert targets(running, {}, {}, (), made) == targets(running, {}, {})

    check()
    (a, _) = running.config.services
    first, second = a.backends
    running.replace(a.model_copy(update={"backends": (first.model_copy(update={"address": "192.0.2.5"}), second)}))
    check()
    running.replace(a.model_copy(update={"backends": (second,)}))
    check()
    running.replace(a)
    check()


def test_what_stays_is_not_made_again(running):
    """The target of a backend that is the same object is the same object."""
    made = Made()
    key = ("a", "192.0.2.1")
    service, backend = running.services["a"], running.backends[key]
    assert made.target(key, service, backend) is made.target(key, service, backend)
    made.forget(())
    assert made.target(key, service, backend.model_copy()) == made.target(key, service, backend)
