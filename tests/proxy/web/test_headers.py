"""Tests of the headers of every answer."""

from proxy.web.headers import SECURITY


def test_nothing_foreign_is_loaded():
    """S3: a browser loads only what this server has, runs no script within the page, and shows the page in no frame."""
    policy = dict(part.strip().split(" ", 1) for part in SECURITY["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in SECURITY["Content-Security-Policy"]
