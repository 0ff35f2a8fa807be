"""The printed file: comments, one line an element, and nothing in it that `check` refuses (S1)."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from proxy.config.importers.document import comment, inline, lines, settle
from proxy.config.importers.draft import Draft, Note, Row, Rows
from proxy.config.importers.ledger import Ledger
from proxy.config.importers.lexer import Place
from tests.proxy.config.importers.bed import judge

VALUES = st.recursive(
    st.one_of(
        st.booleans(), st.integers(-(2**31), 2**31), st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text("abc-_. é", max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_a_value_in_one_line_is_read_back(value):
    """Whatever is written in one line is the same value when it is read."""
    assert tomllib.loads(f"key = {inline('key', value)}") == {"key": value}


@given(st.text(max_size=300))
def test_a_comment_is_nothing_but_a_comment(text):
    """A comment stays one whatever it contains: no line of it is anything else."""
    shown = list(comment(text))
    assert all(line.startswith("#") for line in shown)
    assert tomllib.loads("\n".join(shown)) == {}


def service(draft, name, **settings):
    part = draft.part("service", name, place=Place("f", 9))
    for at, (key, value) in enumerate(settings.items(), 10):
        part.set(key.replace("_", "-"), value, Place("f", at))
    return part


def test_tables_are_in_order_with_their_comments():
    """The top comes first, then services with their inner tables; notes with one reason share a comment."""
    draft = Draft()
    service(
        draft, "a", listen=["*:80/tcp"], backends=Rows([Row("10.0.0.1"), Row({"address": "10.0.0.2", "weight": 2})])
    )
    draft.part("service", "a", "tcp").set("idle-timeout", "1m")
    draft.part().set("nodes", ["x"])
    for line in (2, 1):
        draft.part().remark(Note(Place("/etc/f", line), f"w{line} x", "why", left=True))
    assert "\n".join(line.text for line in lines(draft, ["head"])).split("\n") == [
        "# head",
        "# f:1,2: w1, w2: not carried over: why",
        'nodes = ["x"]',
        "",
        "[service.a]",
        'listen = ["*:80/tcp"]',
        "backends = [",
        '  "10.0.0.1",',
        '  { address = "10.0.0.2", weight = 2 },',
        "]",
        "",
        "[service.a.tcp]",
        'idle-timeout = "1m"',
    ]


def test_what_check_refuses_is_taken_out_with_a_note():
    """An element, a key and a table with an error are removed, each with what `check` says; the rest stays."""
    draft, ledger = Draft(), Ledger()
    service(
        draft,
        "a",
        listen=["*:80/tcp"],
        quorum=-1,
        backends=Rows([Row("10.0.0.1", Place("f", 3)), Row("nosuch", Place("f", 4))]),
    )
    service(draft, "b", listen=["*:81/tcp"])
    text = settle(draft, ledger, judge)
    assert tomllib.loads(text) == {"service": {"a": {"listen": ["*:80/tcp"], "backends": ["10.0.0.1"]}}}
    shown = [str(note) for note in ledger.notes]
    assert any(note.startswith('f:4: "nosuch": not carried over: ') for note in shown)
    assert any(note.startswith("f:11: quorum = -1: not carried over: ") for note in shown)
    assert any("[service.b]: not carried over: " in note for note in shown)
    assert text.count("not carried over") == 3


def test_a_file_without_anything_to_run_is_empty():
    """If nothing is left that could run, there is no text."""
    assert settle(Draft(), Ledger(), judge) == ""
