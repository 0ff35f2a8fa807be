"""The words of a probe's reasons."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health.probes.words import EXCERPT, Failed, OurFault, counted, excerpt, in_words, where


def test_a_noun_agrees_with_its_number() -> None:
    """A count comes with its noun in the singular for 1 alone, and an irregular plural is given."""
    assert [counted(number, "byte") for number in (0, 1, 2)] == ["0 bytes", "1 byte", "2 bytes"]
    assert [counted(number, "entry", "entries") for number in (1, 3)] == ["1 entry", "3 entries"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ECONNREFUSED, "connection refused"),
        (errno.EHOSTUNREACH, "no route to host"),
        (errno.ENETUNREACH, "network unreachable"),
        (errno.ECONNRESET, "connection reset"),
        (errno.EPERM, "forbidden by this host's firewall (EPERM)"),
        (errno.EISDIR, "Is a directory"),
    ],
)
def test_errors_in_words(code: int, words: str) -> None:
    """H13: an error of the network has a reason in words and is the backend's fault."""
    found = in_words(OSError(code, "x"))
    assert isinstance(found, Failed)
    assert str(found) == words


@pytest.mark.parametrize(
    "code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN]
)
def test_what_this_host_lacks_is_our_fault(code: int) -> None:
    """Running out of descriptors, memory, buffers or local ports says nothing about the backend."""
    assert isinstance(in_words(OSError(code, "x")), OurFault)


@given(st.binary(max_size=200))
def test_excerpt_is_harmless(data: bytes) -> None:
    """Whatever a server says, its excerpt is short and holds no control character."""
    shown = excerpt(data)
    assert shown.isprintable()
    assert len(shown) <= EXCERPT + 3


def test_where() -> None:
    """An IPv6 address stands in brackets before a port."""
    assert where("2001:db8::1", 53) == "[2001:db8::1]:53"
    assert where("192.0.2.1", 53) == "192.0.2.1:53"
