"""The words of a probe's reasons."""

from health.probes.words import counted


def test_a_noun_agrees_with_its_number() -> None:
    """A count comes with its noun in the singular for 1 alone, and an irregular plural is given."""
    assert [counted(number, "byte") for number in (0, 1, 2)] == ["0 bytes", "1 byte", "2 bytes"]
    assert [counted(number, "entry", "entries") for number in (1, 3)] == ["1 entry", "3 entries"]
