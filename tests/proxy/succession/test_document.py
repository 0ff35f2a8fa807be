"""proxy.succession.document: the state that a daemon, perhaps of another version, hands to its successor."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.backends.memory import EjectionRow, KnownRow, Memory
from proxy.stats.layout import Layout
from proxy.stats.translation import Shape
from proxy.succession.document import DocumentError, FormerRow, Late, ListenerRow, ShapeRow, State, read

SHAPE = Shape.of(Layout(16, 64))
STATE = State(
    steelyard="0.1.0",
    pid=4711,
    node="lb1",
    shape=ShapeRow.model_validate(SHAPE.tree()),
    services=(("dns", 0, True),),
    backends=((("dns", "10.0.0.11"), 0, True),),
    salt="ab" * 16,
    listeners=(ListenerRow(number=0, transport="udp", address="10.0.0.10", port=53, members=2),),
    memory=Memory(verdicts=(KnownRow(service="dns", backend="10.0.0.11", state="up", reason="answered"),)),
)
LATE = Late(opened=("dns",), workers=(FormerRow(life=1, index=0, pid=4712),))


def written(document):
    """Return a document as another process reads it."""
    return json.loads(document.model_dump_json())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("document", [STATE, LATE], ids=["state", "late"])
def test_documents_survive_the_way(document):
    """A document is read as it was written."""
    assert read(type(document), written(document)) == document


def test_what_never_ends_stays_so():
    """A time that is never survives the way."""
    row = EjectionRow(service="dns", backend="a", until=math.inf, count=1)
    memory = Memory(ejections=(row,))
    assert read(Late, written(Late(memory=memory))).memory.ejections[0].until == math.inf


def test_the_shape_is_that_of_the_counters():
    """The layout of the counters arrives as it was."""
    assert read(State, written(STATE)).shape.shape() == SHAPE


def test_what_another_version_adds_is_ignored():
    """Fields that this version does not know, at any depth, are ignored."""
    tree = written(STATE) | {"weather": "fine"}
    tree["listeners"][0]["colour"] = "blue"
    assert read(State, tree) == STATE


def test_what_another_version_leaves_out_has_a_default():
    """All but the layout of the counters may be missing."""
    assert read(State, {"shape": SHAPE.tree()}).listeners == ()
    assert read(Late, {}) == Late()


def test_what_makes_no_sense_is_refused_by_name():
    """A value of the wrong kind is refused, and the error names its place."""
    tree = written(STATE)
    tree["listeners"][0]["members"] = "many"
    with pytest.raises(DocumentError, match=r"listeners\.0\.members"):
        read(State, tree)
    with pytest.raises(DocumentError, match="shape"):
        read(State, {})


def _places(tree, path=()):
    found = [path] if path else []
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    for key, inner in entries:
        found += _places(inner, (*path, key))
    return found


def _plain(tree):
    if isinstance(tree, dict):
        return {key: _plain(inner) for key, inner in tree.items()}
    return [_plain(inner) for inner in tree] if isinstance(tree, list | tuple) else tree


@settings(max_examples=300)
@given(st.sampled_from([STATE, LATE]), st.data())
def test_any_document_is_read_or_refused(document, data):
    """Whatever another version changes or leaves out, the document is read or refused with a DocumentError."""
    tree = _plain(written(document))
    for _ in range(data.draw(st.integers(1, 3))):
        places = _places(tree)
        if not places:
            break
        *path, last = data.draw(st.sampled_from(places))
        where = tree
        for key in path:
            where = where[key]
        if data.draw(st.booleans()) and isinstance(where, dict):
            del where[last]
        else:
            where[last] = data.draw(JSON)
    try:
        read(type(document), tree)
    except DocumentError as error:
        assert "cannot be used" in str(error)  # noqa: PT017 - either outcome is right, but no other error
