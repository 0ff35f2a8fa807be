"""From pydantic's errors to a sysadmin's."""

import datetime as dt
import time
import tomllib

import pytest

from proxy.config.diagnostics import Report
from proxy.config.positions import Source, annotate
from proxy.config.settings import DnsSettings, NodeSettings, ServiceSettings
from proxy.config.validate import examine, hint_for_key, keys_of, locate, model_at, toml_type, validate


def tab(text):
    """Return an annotated tree."""
    return annotate(Source("file", text), tomllib.loads(text))


def test_what_is_wrong_is_left_out_and_the_rest_looked_at_again():
    """A wrong value does not hide keys that do not fit together: both are reported, and the result is a model of the rest."""
    report = Report()
    model, sound = examine(ServiceSettings, tab('quorum = "x"\nhash-on = "query-name"\n'), report, "[x]")
    assert [found.line for found in report.sorted()] == [1, 2]
    assert not sound
    assert model == ServiceSettings()


def test_a_table_of_nothing_but_mistakes_takes_no_time():
    """Of a table with more mistakes than are shown the rest is counted, and it is not looked at again for each."""
    report = Report()
    began = time.monotonic()
    found = examine(NodeSettings, tab("".join(f"k{number} = 1\n" for number in range(20_000))), report, "[node]")
    assert time.monotonic() - began < 10
    assert found == (None, False)
    assert report.errors > 20_000
    assert report.sorted()[-1].message == "19501 more are not shown"


def test_a_sound_table_is_its_model():
    """A table without mistakes is returned as it is."""
    report = Report()
    assert validate(DnsSettings, tab('give-up = "5s"'), report, "[x]") == DnsSettings(give_up=5.0)
    assert report.errors == 0


def test_a_missing_key_is_told_once_and_not_when_it_was_misspelt():
    """A missing required key is reported at its table, but not if an unknown key was meant for it, nor in a partial table."""
    report = Report()
    assert validate(NodeSettings, tab("workers = 1"), report, "[node]") is None
    assert [found.message for found in report.sorted()] == ['"name" is missing in [node]']
    report = Report()
    validate(NodeSettings, tab('nmae = "x"'), report, "[node]")
    assert [found.message for found in report.sorted()] == ['unknown key "nmae"']
    report = Report()
    validate(NodeSettings, tab("workers = 1"), report, "[node]", partial=True)
    assert report.sorted() == []


def test_a_path_is_followed_as_far_as_the_file_has_it():
    """The place of a path that is not in the file is that of its nearest table."""
    tree = tab("[a]\nb = [1, 2]\n")
    assert locate(tree, ("a", "b", 1))[1].value == (12, 13)
    _, spot, name = locate(tree, ("a", "zzz", 5))
    assert (spot, name) == (tree.spots["a"], "a")


def test_the_model_of_an_inner_table_is_found():
    """Suggestions for a key of an inner table are that table's keys."""
    assert model_at(ServiceSettings, ("dns",)) is DnsSettings
    assert keys_of(model_at(ServiceSettings, ("dns",)))[0] == "retry-after"


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("idle_timeout", 'did you mean "idle-timeout"?'),
        ("Idle-Timeout", 'did you mean "idle-timeout"?'),
        ("idle-timout", 'did you mean "idle-timeout"?'),
        ("retry-after", '"retry-after" belongs in [dns]'),
        ("balance", 'did you mean "scheduler"?'),
        ("zzz", "known keys: idle-timeout, scheduler"),
    ],
)
def test_hints_for_unknown_keys(key, hint):
    """An unknown key gets, in this order: its right form, its right table, its name here for another tool's, all there are."""
    assert hint_for_key(key, ["idle-timeout", "scheduler"], {}, {"retry-after": "[dns]"}) == hint


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"), (5, "5"), (1.5, "1.5"), ("x", '"x"'), ("y" * 50, '"' + "y" * 40 + '…"'), ([], "a list"), ({}, "a table"),
        (10**20, "a very large number"), (dt.date(2026, 1, 1), "a date or time"),
    ],
)  # fmt: skip
def test_values_are_named_as_people_name_them(value, text):
    """A wrong value is shown as it was written, or by what it is."""
    assert toml_type(value) == text
