"""Tests of the counts of what is open."""

import pytest

from proxy.backends.counts import Counts
from proxy.backends.effective import Running
from proxy.config.loader import load
from proxy.stats.columns import Columns
from proxy.stats.layout import BACKEND_ACTIVE, SERVICE_INFLIGHT, SERVICE_SESSIONS, Layout
from proxy.stats.slots import Slots
from proxy.stats.table import Table

FILE = """
[node]
name = "n"
workers = 2
[vrrp.v]
interface = "eth0"
vrid = 1
addresses = ["192.0.2.10/24"]
[service.a]
listen = ["v:53/udp"]
backends = ["192.0.2.11", "192.0.2.12"]
[service.b]
listen = ["127.0.0.1:5353/udp"]
backends = ["192.0.2.11"]
"""
LAYOUT = Layout(16, 64)


@pytest.fixture
def columns():
    one = Columns(LAYOUT)
    for life in (1, 2):
        one.attach(life, Table.create(LAYOUT))
    yield one
    one.close()


def test_the_workers_are_summed(columns, tmp_path):
    """What is open on a backend, in a service and through a router is the sum over all workers, and no other's."""
    path = tmp_path / "steelyard.toml"
    path.write_text(FILE)
    counts = Counts(Running(load(path), Slots(16), Slots(64)), columns)
    for life in (1, 2):
        cells = columns.live[life].cells
        cells[LAYOUT.backend(1) + BACKEND_ACTIVE] = life
        cells[LAYOUT.service(0) + SERVICE_INFLIGHT] = 10 * life
        cells[LAYOUT.service(0) + SERVICE_SESSIONS] = 100 * life
        cells[LAYOUT.service(1) + SERVICE_SESSIONS] = 1000
    assert (counts.active(("a", "192.0.2.11")), counts.active(("a", "192.0.2.12"))) == (0, 3)
    assert (counts.inflight("a"), counts.inflight("b")) == (30, 0)
    assert (counts.opened_through(["v"]), counts.opened_through([])) == (300, 0)
