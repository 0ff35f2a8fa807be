"""Tests of the reference page of metrics."""

from pathlib import Path

from proxy.web.reference import WEB_REASONS, text

ROOT = Path(__file__).parents[3]


def test_the_page_is_current():
    """docs/reference/metrics.md is what the table says: `python -m proxy.web.reference` makes it."""
    assert (ROOT / "docs/reference/metrics.md").read_text() == text()


def test_every_reason_is_explained():
    """Each reason for which the server refuses something is on the page, and each that is there is one of the server's."""
    sources = "".join((ROOT / "proxy/web" / name).read_text() for name in ("gate.py", "server.py"))
    for reason in WEB_REASONS:
        assert f'"{reason}"' in sources
