"""Judges the answer to a configured query by the first value of its first row: pure."""

from health.probes.base import Failed, excerpt
from health.probes.words import counted


def judge(rows: int, value: str | None, expect: str | None) -> str:
    """Return how the answer passes, as text; raises `Failed`.

    `rows` is the number of rows, and `value` the first value of the first one, None for NULL.  Without `expect` any row
    passes; with it the value must be the same text.
    """
    if not rows:
        raise Failed("the query returned no row")
    shown = "NULL" if value is None else excerpt(value.encode("utf-8", "backslashreplace"))
    if expect is not None and value != expect:
        raise Failed(f"the query returned {shown}, not {excerpt(expect.encode())}")
    return f"the query returned {counted(rows, 'row')}" if expect is None else f"the query returned {shown}"
