"""proxy.dashboard.rows: filter, sort, folds."""

from dataclasses import replace

from proxy.dashboard.rows import ORDERS, View, rows


def names(found):
    """Return the keys of rows in one line each."""
    return [service if backend is None else f"  {backend}" for service, backend in (row.key for row in found)]


def test_the_worst_is_first(scene):
    """Services that are down come first, and in each the backend that is worst; what is equal stays in the file's order."""
    found = rows(scene.status, View(), scene.history, 1000)
    assert names(found)[:8] == [
        "smtp",
        "  10.0.0.51",
        "  mx2",
        "dns",
        "  10.0.0.12",
        "  10.0.0.11",
        "  2001:db8::13",
        "ldap",
    ]
    assert len(found) == 6 + 13


def test_what_is_well_is_folded_where_there_is_no_room(scene):
    """On a small screen all services are there, and the backends of those that have trouble."""
    found = rows(scene.status, View(), scene.history, 12)
    assert names(found) == [
        "smtp", "  10.0.0.51", "  mx2", "dns", "  10.0.0.12", "  10.0.0.11", "  2001:db8::13", "ldap", "mysql-write",
        "mysql-read", "syslog",
    ]  # fmt: skip
    assert [row.folded for row in found if row.backend is None] == [False, False, True, True, True, True]


def test_an_operator_folds(scene):
    """What was folded or unfolded by hand stays so, whatever the room."""
    view = View().folding(["smtp", "dns"], fold=True).folding(["ldap"], fold=False)
    found = rows(scene.status, view, scene.history, 12)
    assert {row.service["name"] for row in found if row.backend is not None} == {"ldap"}


def test_a_filter_needs_every_word(scene):
    """Each word must be in the name, the address, the state or the reason; a service that matches shows all its backends."""
    assert names(rows(scene.status, View(words="DOWN refused"), scene.history, 12)) == ["smtp", "  mx2"]
    assert names(rows(scene.status, View(words="10.0.0.31"), scene.history, 1)) == [
        "mysql-write", "  10.0.0.31", "mysql-read", "  10.0.0.31",
    ]  # fmt: skip
    assert rows(scene.status, View(words="refused"), scene.history, 12)[0].hidden == 1
    assert len(rows(scene.status, View(words="ldap"), scene.history, 12)) == 3
    assert rows(scene.status, View(words="[b]nothing"), scene.history, 12) == []


def test_trouble_alone(scene):
    """`t` leaves what is not simply up, and services that are not."""
    found = names(rows(scene.status, View(trouble=True), scene.history, 1000))
    assert found == [
        "smtp", "  10.0.0.51", "  mx2", "dns", "  10.0.0.12", "ldap", "  10.0.0.22", "mysql-write", "  10.0.0.32",
        "mysql-read", "  10.0.0.33",
    ]  # fmt: skip


def test_every_order(scene):
    """Each order sorts services and backends by its own figure, the largest first, and names by the alphabet."""
    view, firsts, seconds = View(), {}, {}
    for order in ORDERS:
        assert view.order == order
        found = rows(scene.status, view, scene.history, 1000)
        firsts[order], seconds[order] = found[0].key[0], found[1].key[1]
        view = view.next_order()
    assert view == View()
    assert firsts == {
        "worst": "smtp",
        "name": "dns",
        "rate": "dns",
        "open": "syslog",
        "latency": "dns",
        "errors": "smtp",
    }
    assert seconds["name"] == "10.0.0.11"
    assert seconds["latency"] == "2001:db8::13"


def test_an_unknown_state_is_shown(scene):
    """A service in a state of a later version is among the worst, not an error."""
    status = scene.status
    status["services"][-2]["state"] = "melting"
    found = rows(status, replace(View(), order="worst"), scene.history, 1000)
    assert "syslog" in names(found)[:4]
