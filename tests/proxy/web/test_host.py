"""Tests of the Host header's check."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.web.host import is_own


@pytest.mark.parametrize(
    "host", [None, "localhost", "LOCALHOST:9600", "127.0.0.1", "127.0.0.1:9600", "[::1]", "[::1]:9600", "192.0.2.1:80"]
)
def test_names_of_this_host(host):
    """Whoever means this host writes an address or localhost, with or without a port."""
    assert is_own(host)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "localhost:x", "[::1", "[::1]x", "::1", "[evil]:1", "1" * 300, "127.1"],
)  # fmt: skip
def test_names_that_a_foreign_page_may_have(host):
    """S3: any other name is refused, so that a page whose name was changed to resolve to 127.0.0.1 reads nothing."""
    assert not is_own(host)


@given(st.text(max_size=60))
def test_any_text(text):
    """Invariant: any text has an answer, and a name with a letter besides localhost and hexadecimal digits is never ours."""
    if is_own(text) and "localhost" not in text.lower():
        assert set(text.strip().lower()) <= set("0123456789abcdef:.[]%")
