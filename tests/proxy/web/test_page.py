"""Tests of the page's files."""

from proxy.web import page


def test_files():
    """The page and what it loads are there, each with its type, and nothing else is."""
    found = page.files()
    assert found["/"].kind.startswith("text/html")
    assert all(content.body for content in found.values())
