"""Tests of the reference page of metrics."""

from pathlib import Path

from proxy.web.reference import text

ROOT = Path(__file__).parents[3]


def test_the_page_is_current():
    """docs/reference/metrics.md is what the table says: `python -m proxy.web.reference` makes it."""
    assert (ROOT / "docs/reference/metrics.md").read_text() == text()
