"""The summary of the pair's demo."""

import pytest

from proxy.demo.load import Tally
from proxy.demo.outcome import Outcome, longest_silence, table


@pytest.mark.parametrize(
    ("heard", "longest"),
    [
        ([], 10.0),
        ([3.0], 7.0),
        ([1.0, 2.0, 6.0, 9.0], 4.0),
        ([-5.0, 8.0, 30.0], 8.0),
        ([0.0, 10.0], 10.0),
    ],
)
def test_the_longest_silence(heard, longest):
    """Silence lies between the beginning, the answers within, and the end; what is outside does not count."""
    assert longest_silence(heard, 0.0, 10.0) == longest


def outcome(**changed):
    made = Outcome("all is killed", "lb2", 0.0, Tally(sent=500, repeated=60), Tally(sent=50, cut=2), 0.304, "lb2")
    for name, value in changed.items():
        setattr(made, name, value)
    return made


def test_an_event_is_a_row():
    """Each event has its silence in ms, what was repeated, lost and cut, and who has the address."""
    made = outcome()
    made.connections.lost.update({"connection refused": 5, "no answer": 1})
    *_, row = table([made])
    assert row.split() == ["all", "is", "killed", "304", "ms", "|", "500", "60", "0", "|", "50", "6", "2", "|", "lb2"]


@pytest.mark.parametrize(("holder", "told"), [("lb1", "lb1, not lb2"), ("", "nobody, not lb2"), ("lb2", "| lb2")])
def test_an_address_elsewhere_is_told(holder, told):
    """A host that should not have the address, or nobody, is shown beside the one that should."""
    assert table([outcome(holder=holder)])[-1].endswith(told)


def test_rows_are_aligned():
    """Whatever the events are called, the columns stand below each other."""
    lines = table([outcome(), outcome(what="short"), outcome(what="something with a rather long name")])
    assert len({line.index("|") for line in lines}) == len({line.rindex("|") for line in lines}) == 1
