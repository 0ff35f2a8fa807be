"""proxy.dashboard.head: the host, its sums, its routers, and what is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dashboard import head
from proxy.dashboard.history import History
from proxy.dashboard.text import UNICODE, length, plain
from proxy.words import printable
from tests.proxy.dashboard.lively import NOW, lively

JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda one: st.lists(one, max_size=3)
                    | st.dictionaries(st.sampled_from(["name", "state", "peer", "text", "last_advert_s", "x"]), one), max_leaves=8)  # fmt: skip


def shown(status, cells=120, room=40):
    """Return the top as text."""
    return [plain(line) for line in head.lines(status, History(), NOW, cells, room, UNICODE)]


def test_the_top(scene):
    """The first lines say who this is, what it serves, who has the address, and what an operator should know."""
    lines = [plain(line) for line in head.lines(scene.status, scene.history, NOW, 120, 40, UNICODE)]
    assert lines[0].startswith(" lb1  steelyard 0.1.0, up 3d4h, 2 of 2 workers, configuration abcdef01 (generation 4)")
    assert lines[1:] == [
        " 6 services: ● 4 up ◐ 1 degraded ✖ 1 down   7 of 13 backends usable   768 open   7.7k/s   8 errors/s",
        " inside ◆ active   priority 90 = 150 -60 service smtp   peer lb2 with 80, 0.4s ago   10.0.0.10/24 2001:db8::10/64",
        " ▲ 2 overrides (steelyard overrides)",
    ]


@pytest.mark.parametrize("cells", [20, 40, 80, 120, 200])
def test_it_fits(scene, cells):
    """At every width no line is wider than the screen, and the host's name is there."""
    lines = head.lines(scene.status, scene.history, NOW, cells, 24, UNICODE)
    assert max(map(length, lines)) <= cells
    assert "lb1" in plain(lines[0])


def test_a_fault_says_why():
    """A router in fault shows the reason of its last change; one without a peer says so."""
    status = lively(0, NOW)
    status["vrrp"][0].update(state="fault", peer=None, priority_parts={}, effective_priority=0)
    status["vrrp"][0]["last_change"]["reason"] = "eth1 is down"
    line = " ".join(shown(status, 200)[2].split())
    assert line == "inside ✖ fault priority 0 of 150 no peer 10.0.0.10/24 2001:db8::10/64 eth1 is down"


def test_a_router_whose_process_is_silent():
    """Without an answer of the vrrp process the priority is unknown, and is not shown as 0."""
    status = lively(0, NOW)
    status["vrrp"][0]["effective_priority"] = None
    assert "150 configured, the present one is unknown" in shown(status)[2]


def test_many_routers_are_counted():
    """A small screen shows as many routers as it has room for, and how many there are more."""
    status = lively(0, NOW)
    status["vrrp"] = [{**status["vrrp"][0], "name": f"vip{at}"} for at in range(9)]
    lines = shown(status, 120, 24)
    assert sum("vip" in line for line in lines) == 2
    assert " and 7 more routers" in lines


def test_alarms_and_standby_are_shown():
    """An alarm stands above all else, and a router in standby says so."""
    status = {
        **lively(0, NOW),
        "alarms": [{"service": "ldap", "text": "every backend refuses the login", "since": "2026-11-22T17:22:10.123Z"}],
    }
    status["vrrp"][0]["standby"] = True
    lines = shown(status, 120, 60)
    assert " ▲ ldap: every backend refuses the login" in lines
    assert "active, in standby" in lines[2]


def test_nothing_is_served():
    """A daemon without services says so, and a dead worker is counted."""
    status = lively(0, NOW)
    status["services"] = []
    status["workers"][0]["alive"] = False
    lines = shown(status)
    assert "1 of 2 workers" in lines[0]
    assert lines[1].startswith(" no services")
    assert any("worker 0 (pid 4711, 0 restarts) is dead" in line for line in lines)


@given(st.lists(st.dictionaries(st.sampled_from(["name", "state", "peer", "priority_parts", "addresses", "last_change", "standby"]),
                                JSON), max_size=3), st.lists(st.text()))  # fmt: skip
def test_any_router_can_be_drawn(routers, alarms):
    """Whatever a router says, and whatever the words of an alarm, the top is drawn, and no line is wider than the screen."""
    rows = [{"service": text, "text": text, "since": "2026-11-22T17:22:10.123Z"} for text in alarms]
    status = {**lively(0, NOW), "vrrp": routers, "alarms": rows}
    for line in head.lines(status, History(), NOW, 60, 24, UNICODE):
        assert length(line) <= 60
        assert printable(plain(line)) == plain(line)
