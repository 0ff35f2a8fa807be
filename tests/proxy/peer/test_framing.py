"""Messages on a stream: cut anywhere, they come out whole."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.peer.framing import LARGEST, Frames, FramingError, frame


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=10), st.lists(st.integers(1, 20), max_size=50))
def test_any_cut(payloads, cuts):
    """Invariant: however a stream is cut, the same messages come out, in order."""
    stream = b"".join(map(frame, payloads))
    frames, found, at = Frames(), [], 0
    for size in [*cuts, len(stream)]:
        found += frames.feed(stream[at : at + size])
        at += size
    assert found == payloads
    assert frames.waiting == 0


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_nonsense_is_bounded(pieces):
    """Invariant: whatever comes, it is a message, or waits within the bound, or is refused."""
    frames = Frames()
    with contextlib.suppress(FramingError):
        for piece in pieces:
            assert all(0 < len(one) <= LARGEST for one in frames.feed(piece))
            assert frames.waiting < LARGEST + 4


def test_a_length_above_the_bound():
    """A length of 0 or above the bound is refused before anything of the message is kept."""
    for length in (0, LARGEST + 1):
        with pytest.raises(FramingError, match=f"a message of {length} octets"):
            Frames().feed(length.to_bytes(4, "big"))
    for payload in (b"", b"x" * (LARGEST + 1)):
        with pytest.raises(ValueError, match="octets"):
            frame(payload)
