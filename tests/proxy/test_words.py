"""Words for numbers."""

from proxy.words import counted


def test_one_is_no_plural():
    """A number has its noun beside it: one of them in the singular, none and more in the plural."""
    assert [counted(number, "service") for number in (0, 1, 2)] == ["0 services", "1 service", "2 services"]
    assert [counted(number, "query", "queries") for number in (1, 3)] == ["1 query", "3 queries"]
