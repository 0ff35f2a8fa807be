"""Tests of the words for refusals."""

from pathlib import Path

from proxy.web.reasons import WEB_REASONS

ROOT = Path(__file__).parents[3]


def test_every_reason_is_explained():
    """Each reason for which the server refuses something is on the page, and each that is there is one of the server's."""
    sources = "".join((ROOT / "proxy/web" / name).read_text() for name in ("gate.py", "server.py"))
    for reason in WEB_REASONS:
        assert f'"{reason}"' in sources
