"""Tables that are being written, and several hosts' tables as one."""

from proxy.config.importers.draft import Draft, Note, Row, Rows, by_node
from proxy.config.importers.lexer import Place


def draft(**settings):
    """Return a draft with one router."""
    found = Draft()
    part = found.part("vrrp", "v")
    for key, value in settings.items():
        part.set(key.replace("_", "-"), value)
    return found


def test_a_key_is_set_once():
    """A second value replaces the first one, in its place."""
    part = draft(a=1, b=2).part("vrrp", "v")
    part.set("a", 3)
    assert [(item.key, item.value) for item in part.settings()] == [("a", 3), ("b", 2)]
    part.drop("a")
    assert part.get("a", "none") == "none"


def test_a_note_stands_before_its_key():
    """The note about a statement is placed before the key that the statement has set, once."""
    part = Draft().part("x")
    part.set("a", 1, Place("f", 1))
    part.set("b", 1, Place("f", 2))
    for _ in range(2):
        part.remark(Note(Place("f", 2), "b", "why", left=False))
    part.remark("last")
    assert [getattr(item, "key", None) or item.text for item in part.items] == ["a", "f:2: b: why", "b", "last"]


def test_names_are_legal_and_free():
    """A name gets only characters that ours may have, is no number, and gets a number of its own if it is taken."""
    found = Draft()
    found.part("vrrp", "VI_1")
    assert found.unused("vrrp", "VI_1") == "VI_1-2"
    assert found.unused("vrrp", "café au lait") == "caf--au-lait"
    assert found.unused("vrrp", "51") == "vrrp-51"
    assert found.unused("vrrp", "…") == "vrrp" or found.unused("vrrp", "…") == "-"


def test_values_that_differ_are_keyed_by_node():
    """What is the same on all hosts is written once; other values become tables keyed by node, with defaults filled in."""
    found = by_node({"lb1": draft(vrid=7, priority=150, preempt=False), "lb2": draft(vrid=7, priority=100)})
    part = found.part("vrrp", "v")
    assert part.get("vrid") == 7
    assert part.get("priority") == {"lb1": 150, "lb2": 100}
    assert part.get("preempt") == {"lb1": False, "lb2": True}


def test_rows_are_compared_by_value():
    """The same list from two files is the same, though its rows come from different places."""
    one, other = draft(), draft()
    one.part("vrrp", "v").set("track", Rows([Row({"interface": "eth0"}, Place("a", 1))]))
    other.part("vrrp", "v").set("track", Rows([Row({"interface": "eth0"}, Place("b", 9))]))
    assert isinstance(by_node({"a": one, "b": other}).part("vrrp", "v").get("track"), Rows)


def test_a_table_of_one_host_says_so():
    """A table that only one host's file has is kept, with a comment."""
    found = by_node({"lb1": draft(vrid=7), "lb2": Draft()})
    assert any("only in the file of lb1" in getattr(item, "text", "") for item in found.part("vrrp", "v").items)
