"""The calls of a file in Lua, and what is passed over."""

import pytest

from proxy.config.importers.dnsdist_lua import Call, Lua, Name, Skipped, Table, shown
from proxy.config.importers.lexer import UnreadableError


def read(text):
    return list(Lua("f", text).statements())


@pytest.mark.parametrize(
    ("text", "name", "args"),
    [
        ('f("a")', "f", ["a"]),
        ("f'a'", "f", ["a"]),
        ("f[[a]]" if False else "f('a\\n\\x41\\065')", "f", ["a\nAA"]),
        ("f(1, -2.5, 0x10, true, nil, x.y)", "f", [1.0, -2.5, 16.0, True, None, Name("x.y")]),
        ('f("a" .. "b" .. 3)', "f", ["ab3"]),
        ('local x = "a"\nf(x)', "f", ["a"]),
        ("f(g(1))", "f", [Call("g", ("f", 1, 3), [1.0])]),
        ("-- c\n--[[ f()\n]] f()", "f", []),
        ("f([[a\nb]])", "f", ["a\nb"]),
    ],
)  # fmt: skip
def test_calls(text, name, args):
    """A call has a name and its constant arguments; variables with known values are replaced."""
    (call,) = read(text)
    assert (call.name, call.args) == (name, args)


def test_tables():
    """A table has a list and keys with their places, also in brackets, and may end with a comma."""
    (call,) = read('f{"a", b=1,\n ["c"]={2, 3},}')
    (table,) = call.args
    assert table.items == ["a"]
    assert table.keys == {"b": 1.0, "c": Table(items=[2.0, 3.0])}
    assert table.places["c"].place.line == 2
    assert [each.name for each in call.statement.inner] == ["b", "c"]


def test_methods():
    """Calls of methods are kept with the call or the variable whose result they are of."""
    one, two = read('s = f("a")\nf("b"):up():down(1)')
    assert one.methods == []
    assert [each.name for each in two.methods] == ["up", "down"]
    first, again = read("n = g()\nn:add('x')")
    assert first is again
    assert first.methods[0].args == ["x"]


@pytest.mark.parametrize(
    "text",
    [
        "function a()\n if x then\n  for i=1,2 do b() end\n end\n while y do z() end\nend",
        "if a then f() end",
        "for i = 1, 3 do f(i) end",
        "f(function(dq) return 1 end)",
        "x = a + 1",
        "f(a and b)",
        "x = not y",
        "a.b.c = 3",
        "return 1",
        "f(#x)",
    ],
)
def test_what_only_running_the_file_would_tell(text):
    """Functions, conditions, loops and sums are passed over as one statement, and the call behind them is read."""
    found = read(f"{text}\ng('x')")
    assert isinstance(found[0], Skipped)
    assert [each.name for each in found if isinstance(each, Call)] == ["g"]


@pytest.mark.parametrize(
    ("text", "place"),
    [("\nf(1", (2, 2)), ("f{a=1", (1, 2)), ("f('a", (1, 3)), ("f({1 2})", (1, 6)), ("?", (1, 1)), ("x = (1", (1, 5))],
)
def test_what_is_not_lua(text, place):
    """Brackets and strings without an end, and characters that Lua does not have, are errors at their place."""
    with pytest.raises(UnreadableError) as error:
        read(text)
    assert error.value.place[1:] == place


def test_values_are_shown():
    """A value in a note is short."""
    assert shown(Call("f", ("f", 1, 1), [Table(items=["a"]), None, True, 2.0])) == "f({a}, nil, true, 2)"
    assert len(shown("x" * 500)) == 60
