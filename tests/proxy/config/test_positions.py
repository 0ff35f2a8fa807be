"""Where keys and values stand."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.positions import Arr, NestingError, Source, Tab, annotate

TEXT = '''# a comment with [brackets] = "and quotes"
nodes = ["lb1", 'lb2'] # behind
[a.b]
x.y = {z=1, "q \\"q" = [1, # one
 2, {k="v"}]}
d = 1979-05-27 07:32:00
s = """a
"" b\\""" """
lit = \'\'\'
# not a comment
[not.a.header]
\'\'\'
[[a.c]]
n = 1
[[ a . c ]]
n = 2
[a.c.sub]
"m.m" = true
[a]
e = 'x'
'''


def spans(text):
    """Return for each path the texts of its key and its value."""
    source = Source("file", text)
    found = {}

    def walk(value, path):
        members = []
        if isinstance(value, Tab):
            members = [(key, value.spots[key], inner) for key, inner in value.items()]
        elif isinstance(value, Arr):
            members = list(zip(range(len(value)), value.spots, value, strict=True))
        for key, spot, inner in members:
            found[(*path, key)] = (text[slice(*spot.key)], text[slice(*spot.value)])
            walk(inner, (*path, key))

    walk(annotate(source, tomllib.loads(text)), ())
    return found


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("nodes",), "nodes", "[\"lb1\", 'lb2']"),
        (("nodes", 1), "'lb2'", "'lb2'"),
        (("a", "b"), "b", "a.b"),
        (("a", "b", "x", "y", "z"), "z", "1"),
        (("a", "b", "x", "y", 'q "q', 1), "2", "2"),
        (("a", "b", "x", "y", 'q "q', 2, "k"), "k", '"v"'),
        (("a", "b", "d"), "d", "1979-05-27 07:32:00"),
        (("a", "b", "s"), "s", '"""a\n"" b\\""" """'),
        (("a", "c", 0, "n"), "n", "1"),
        (("a", "c", 1, "n"), "n", "2"),
        (("a", "c", 1, "sub", "m.m"), '"m.m"', "true"),
        (("a", "e"), "e", "'x'"),
    ],
)
def test_every_form_of_toml_is_found(path, key, value):
    """Dotted and quoted keys, inline tables, arrays, arrays of tables and strings of all kinds have their places."""
    assert spans(TEXT)[path] == (key, value)


def test_an_array_of_tables_counts_from_its_latest_element():
    """A table below an array of tables belongs to the element before it."""
    assert ("a", "c", 1, "sub") in spans(TEXT)
    assert ("a", "c", 0, "sub") not in spans(TEXT)


def test_lines_and_columns_count_from_one():
    """The first character is line 1, column 1; columns are characters, not bytes."""
    source = Source("file", 'é = "ü"\nb = 1\n')
    assert source.line_col(0) == (1, 1)
    assert source.line_col(4) == (1, 5)
    assert source.line_col(8) == (2, 1)
    assert (source.line(1), source.line(2), source.line(9)) == ('é = "ü"', "b = 1", "")


def test_a_table_that_only_an_inner_one_implies_is_not_explicit():
    """[a.b] defines a.b, and a only by the way: a later [a] is allowed."""
    tab = annotate(Source("file", "[a.b]\n"), tomllib.loads("[a.b]\n"))
    assert not tab.spots["a"].explicit
    assert tab["a"].spots["b"].explicit


@pytest.mark.parametrize(
    "text", [".".join(["a"] * 50) + " = 1", "[" + ".".join(["a"] * 50) + "]", "a = " + "[" * 50 + "]" * 50]
)
def test_deep_nesting_is_refused(text):
    """Tables or arrays deeper than any configuration needs raise NestingError instead of exhausting the stack."""
    with pytest.raises(NestingError):
        annotate(Source("file", text), tomllib.loads(text))


SCALARS = st.one_of(st.integers(), st.booleans(), st.text(st.characters(codec="utf-8"), max_size=8))


def written(value):
    """Write a value as TOML."""
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case str():
            return (
                '"'
                + "".join(
                    f"\\U{ord(char):08x}" if char in '"\\' or ord(char) < 32 or ord(char) == 127 else char
                    for char in value
                )
                + '"'
            )
        case list():
            return "[ " + ",\n ".join(map(written, value)) + " ]"
    return "{" + ", ".join(f"{written(key)} = {written(inner)}" for key, inner in value.items()) + "}"


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=6),
        st.recursive(
            SCALARS,
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), inner, max_size=3)
            ),
            max_leaves=12,
        ),
        max_size=4,
    )
)
def test_each_span_reads_as_its_value(data):
    """The characters at the place of a value, read as TOML, are that value."""
    text = "".join(f"{written(key)} = {written(value)}\n" for key, value in data.items())
    assert tomllib.loads(text) == data
    found = spans(text)
    for path, (key, value) in found.items():
        inner = data
        for part in path:
            inner = inner[part]
        assert tomllib.loads(f"x = {value}")["x"] == inner
        if isinstance(path[-1], str):
            assert tomllib.loads(f"{key} = 1") == {path[-1]: 1}
