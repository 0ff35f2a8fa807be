"""proxy.dashboard.detail: all of one backend."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dashboard.detail import CONNECTIONS, Extra, find, lines, title
from proxy.dashboard.text import UNICODE, length, plain
from tests.proxy.dashboard.lively import NOW, connection


def shown(scene, service, backend, extra=None, cells=120):
    """Return the page as text."""
    found = lines(scene, find(scene.status, service, backend), extra or Extra(), cells)
    assert all(length(line) <= cells for line in found)
    return [plain(line) for line in found]


def test_all_of_a_backend(scene):
    """State, reason, address, weight, traffic and errors, then its probes and its own events, the newest first."""
    found = shown(scene, "dns", "10.0.0.12")
    text = "\n".join(found)
    assert "✖ down since" in found[0]
    assert "no answer within 1 s (3 failures in a row)" in found[1]
    assert "errors no_answer 41" in " ".join(text.split())
    assert "0 of the last 2 passed, 0 changes" in text
    assert "up -> down: no answer within 1 s" in text
    assert "smtp" not in text


def test_who_took_it_out(scene):
    """A drained backend says by whom and why; one in maintenance that it is not probed."""
    assert "drain by uid 1000: new disks" in "\n".join(shown(scene, "ldap", "10.0.0.22"))
    assert "it is not probed" in "\n".join(shown(scene, "mysql-read", "10.0.0.33"))


def test_the_histogram(scene):
    """Each octave of latency has a bar, also one without samples between two that have some."""
    extra = Extra(connections=[], cells=[(0.25, 30), (0.5, 60), (4.0, 10)])
    found = shown(scene, "dns", "10.0.0.11", extra)
    at = next(at for at, line in enumerate(found) if "Latency of the last minute in ms, 100 samples" in line)
    assert [line.split()[:3] + line.split()[-2:] for line in found[at + 1 : at + 6]] == [
        ["up", "to", "0.25", "30.0", "%"], ["up", "to", "0.50", "60.0", "%"], ["up", "to", "1.0", "0.0", "%"],
        ["up", "to", "2.0", "0.0", "%"], ["up", "to", "4.0", "10.0", "%"],
    ]  # fmt: skip
    assert "none" in "\n".join(shown(scene, "dns", "10.0.0.11", Extra(cells=[])))


def test_who_is_connected(scene):
    """Connections are listed with their ages; that there are more than are listed is said, and why there are none."""
    found = "\n".join(shown(scene, "ldap", "10.0.0.21", Extra([connection(at) for at in range(3)], cells=[])))
    assert "Connected: 3" in found
    assert "192.0.2.8:40001" in found
    many = Extra([connection(0)] * CONNECTIONS, more=True, cells=[])
    assert f"Connected: the first {CONNECTIONS}" in "\n".join(shown(scene, "ldap", "10.0.0.21", many))
    assert "DNS queries are only counted" in "\n".join(shown(scene, "dns", "10.0.0.11", Extra([], cells=[])))
    assert "none is open" in "\n".join(shown(scene, "smtp", "mx2", Extra([], cells=[])))
    assert "over the control socket only" in "\n".join(
        shown(scene, "smtp", "mx2", Extra(why="over the control socket only"))
    )


@pytest.mark.parametrize("cells", [20, 40, 80, 120, 200])
def test_it_fits(scene, cells):
    """At every width no line is wider than the screen."""
    for service in scene.status["services"]:
        for backend in service["backends"]:
            shown(scene, service["name"], backend["name"], Extra([connection(1)], cells=[(0.3, 4)]), cells)
            assert length(title(service["name"], backend["name"], cells, NOW, UNICODE.cut)) <= cells


def test_what_is_gone_is_not_found(scene):
    """A backend or a service that was removed has no row."""
    assert find(scene.status, "dns", "10.0.0.99") is None
    assert find(scene.status, "ftp", None) is None
    assert find(scene.status, "dns", None).backend is None


@given(st.lists(st.tuples(st.floats(0.001, 40_000), st.integers(1, 10**9)), max_size=96))
def test_any_histogram_can_be_drawn(cells):
    """Every latency that can be counted falls into a bar."""
    from proxy.dashboard.detail import _histogram

    found = _histogram(Extra(cells=cells), 80, UNICODE)
    assert len(found) <= 1 + 20
    assert all(length(line) <= 80 for line in found)
