"""proxy.dashboard.times: times in few cells."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dashboard.times import hour, seconds, short


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (4.9, "4s"),
        (95, "1m35s"),
        (600, "10m"),
        (12_000, "3h20m"),
        (446_400, "5d4h"),
        (86_400 * 120 + 3600, "120d"),
    ],
)
def test_short(seconds, text):
    """A length of time is its two largest units."""
    assert short(seconds) == text


@given(st.floats(0, 1e9))
def test_short_is_short(seconds):
    """No length of time is wider than its column."""
    assert len(short(seconds)) <= 6


@pytest.mark.parametrize(
    ("at", "found"),
    [(12, 12.0), (1.5, 1.5), ("2026-11-22T18:22:10+00:00", 1795371730.0), ("2026-11-22T18:22:10Z", 1795371730.0),
     (None, None), (True, None), ("soon", None), ([], None), (float("nan"), None), (10**400, None)],
)  # fmt: skip
def test_times_of_events(at, found):
    """A time is a number or RFC 3339; anything else is none."""
    assert seconds(at) == found


def test_hours():
    """A time of another day has its date; what is no time is none."""
    now = 1_790_000_000.0
    assert len(hour(now - 60, now)) == len("18:22:10")
    assert len(hour(now - 90_000, now)) == len("11-22 18:22:10")
    assert hour(1e300, now) == hour(float("nan"), now) == "?"
