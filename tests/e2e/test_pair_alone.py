"""A pair of daemons that only move an address, and balance nothing."""

import json
from collections.abc import Iterator

import pytest

from tests.e2e.bed import Bed
from tests.e2e.daemon import Daemon
from tests.e2e.process import until
from tests.e2e.vrrp import VIP, holders, owner_settles, pair

ADDRESS = VIP[4].partition("/")[0]
FILE = f"""
nodes = ["a", "b"]
[vrrp.outside]
interface = "eth0"
vrid = 51
addresses = ["{VIP[4]}"]
priority = {{ a = 150, b = 100 }}
advert-interval = "100ms"
track = [{{ probe = "client", penalty = 60 }}]
[probe.client]
type = "ping"
address = "198.51.100.4"
"""


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    """Make two hosts and a client on a LAN."""
    with pair() as made:
        yield made


@pytest.fixture(scope="module")
def hosts(bed: Bed) -> dict[str, Daemon]:
    """Start a daemon on each host; a has the address."""
    made = {name: Daemon(bed, name, FILE, ready=lambda status: status["vrrp"][0]["state"] != "init") for name in "ab"}
    made["a"].until(lambda status: status["vrrp"][0]["state"] == "active", "a to be active")
    assert owner_settles(bed, ADDRESS) == "a"
    return made


def test_it_is_checked_and_shown(hosts):
    """A file with a router and without a service is valid and runs; the status shows everything up, with one worker."""
    checked = hosts["a"].cli("check", str(hosts["a"].file))
    assert (checked.returncode, checked.stdout) == (0, f"{hosts['a'].file}: 1 router: no errors\n")
    assert checked.stderr == ""
    assert hosts["a"].cli("status").returncode == 0
    assert len(hosts["a"].status()["workers"]) == 1
    active = {name: hosts[name].cli("is-active").returncode for name in "ab"}
    assert active == {"a": 0, "b": 1}
    assert hosts["a"].cli("is-active", "outsde").returncode == 64
    assert json.loads(hosts["b"].cli("is-active", "outside", "--json").stdout)["active"] is False


def test_its_address_moves(bed, hosts):
    """V6: standby moves the address, and resume moves it back."""
    assert hosts["a"].cli("standby").returncode == 0
    assert owner_settles(bed, ADDRESS) == "b"
    assert hosts["a"].cli("resume").returncode == 0
    until(lambda: holders(bed, ADDRESS) == ["a"], 6, "a to have it again")


def test_a_worker_more_or_less_does_not_matter(bed, hosts):
    """V18: on a host without services, the death of a worker has no effect."""
    (worker,) = hosts["a"].status()["workers"]
    bed.run("a", ["kill", "-9", str(worker["pid"])])
    hosts["a"].until(lambda status: status["workers"][0]["restarts"] == 1, "another worker")
    (router,) = hosts["a"].status()["vrrp"]
    assert (router["state"], router["effective_priority"]) == ("active", 150)
    assert holders(bed, ADDRESS) == ["a"]
