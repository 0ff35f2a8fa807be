"""proxy.status.troubles: what is wrong with the daemon itself."""

from proxy.status.troubles import serving_workers, troubles
from tests.proxy.cli.conftest import whole_status


def test_nothing_is_wrong():
    """A daemon that is well has no troubles."""
    assert troubles(whole_status()) == []


def test_each_trouble_has_a_level():
    """What refuses clients or has died is an error, what only differs a warning."""
    worker = whole_status()["workers"][0]
    status = whole_status(
        config={"sha256": "ab", "valid": False, "error": "f.toml:1:2: no\n  x", "on_disk_sha256": "c", "overrides": 1},
        workers=[{**worker, "alive": False}, {**worker, "heartbeat_age_s": 2.0}, {**worker, "draining": True}],
    )
    assert [one.level for one in troubles(status)] == ["error", "warning", "warning", "error", "error", "warning"]
    assert "f.toml:1:2: no" in troubles(status)[0].text


def test_a_stop_says_whether_clients_are_served():
    """A daemon that stops is an error once it refuses clients."""
    status = whole_status()
    status["state"] = "stopping"
    assert troubles(status)[0].level == "warning"
    status["services"][0]["state"] = "stopping"
    assert troubles(status)[0].level == "error"


def test_own_workers():
    """Workers of a former daemon do not count, unless there are no others."""
    worker = whole_status()["workers"][0]
    old = {**worker, "draining": True}
    assert serving_workers(whole_status(workers=[worker, old])) == [worker]
    assert serving_workers(whole_status(workers=[old])) == [old]
