"""The answer to a configured query."""

import pytest

from health.probes.base import Failed
from health.probes.firstvalue import judge


@pytest.mark.parametrize(
    ("rows", "value", "expect", "words"),
    [
        (1, "7", None, "the query returned 1 row"),
        (1, "7", "7", 'the query returned "7"'),
        (3, None, None, "the query returned 3 rows"),
    ],
)
def test_passes(rows: int, value: str | None, expect: str | None, words: str) -> None:
    """H8: any row passes, and with `expect` the same text."""
    assert judge(rows, value, expect) == words


@pytest.mark.parametrize(
    ("rows", "value", "expect", "reason"),
    [
        (0, None, None, "the query returned no row"),
        (1, "8", "7", 'the query returned "8", not "7"'),
        (1, None, "7", 'the query returned NULL, not "7"'),
        (1, " 7", "7", 'the query returned " 7", not "7"'),
        (1, "\ud800\x1b", "7", 'the query returned "\\ud800\\x1b", not "7"'),
    ],
)
def test_fails(rows: int, value: str | None, expect: str | None, reason: str) -> None:
    """H8, H13: no row and another text fail, and the reason shows what came, harmlessly."""
    with pytest.raises(Failed) as failed:
        judge(rows, value, expect)
    assert str(failed.value) == reason
