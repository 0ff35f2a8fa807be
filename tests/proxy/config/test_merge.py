"""Defaults below a table."""

from proxy.config.merge import merged, without
from proxy.config.positions import Source, Spot, Tab

HERE = Spot(Source("own", ""), (0, 0), (0, 0))
THERE = Spot(Source("defaults", ""), (0, 0), (0, 0))


def tab(values, spot):
    """Return a table all of whose members stand at one place."""
    result = Tab(spot)
    for key, value in values.items():
        result.put(key, tab(value, spot) if isinstance(value, dict) else value, spot)
    return result


def test_tables_are_merged_key_by_key():
    """A key of the table's own wins, also within inner tables; the defaults bring the rest."""
    result = merged(tab({"a": 1, "t": {"x": 1, "y": 2}}, THERE), tab({"t": {"y": 3}, "b": 4}, HERE))
    assert result == {"a": 1, "b": 4, "t": {"x": 1, "y": 3}}


def test_each_value_keeps_its_place():
    """A value that came from the defaults still points there."""
    result = merged(tab({"a": 1, "t": {"x": 1}}, THERE), tab({"b": 2, "t": {"y": 2}}, HERE))
    assert result.spots["a"] is THERE
    assert result["t"].spots["x"] is THERE
    assert result["t"].spots["y"] is HERE


def test_defaults_are_left_as_they_were():
    """Merging changes neither of the two tables."""
    defaults, own = tab({"t": {"x": 1}}, THERE), tab({"t": {"y": 2}}, HERE)
    merged(defaults, own)
    assert (defaults, own) == ({"t": {"x": 1}}, {"t": {"y": 2}})


def test_what_may_come_and_what_replaces():
    """`only` limits what the defaults bring; a table named in `whole` replaces theirs."""
    defaults = tab({"a": 1, "t": {"x": 1}}, THERE)
    assert merged(defaults, tab({"t": {"y": 2}}, HERE), only=("t",)) == {"t": {"x": 1, "y": 2}}
    assert merged(defaults, tab({"t": {"y": 2}}, HERE), whole=("t",)) == {"a": 1, "t": {"y": 2}}
    assert merged(None, tab({"b": 1}, HERE)) == {"b": 1}


def test_keys_can_be_left_out():
    """A table without some keys is a copy."""
    own = tab({"a": 1, "b": 2}, HERE)
    assert without(own, "a", "zzz") == {"b": 2}
    assert own == {"a": 1, "b": 2}
