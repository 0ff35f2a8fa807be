"""Tests of how silence is reckoned."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.processes.heartbeat import LOOK, Pulse


def test_silence_grows_while_nothing_beats():
    """Looks a tenth of a second apart add up to the time that the heartbeat has stood still."""
    pulse = Pulse()
    assert [pulse.silence(7, at / 10) for at in range(12)][-1] == pytest.approx(1.1)


def test_a_beat_ends_the_silence():
    """Any other beat ends it, one that is smaller as well."""
    pulse = Pulse()
    for at in range(9):
        pulse.silence(7, at / 10)
    assert pulse.silence(6, 0.9) == 0.0
    assert pulse.silence(6, 1.0) == pytest.approx(0.1)


def test_a_watcher_that_slept_has_seen_nothing():
    """A look that comes an hour late adds no more than one look may, and several such looks no more than that each."""
    pulse = Pulse()
    pulse.silence(7, 0.0)
    assert pulse.silence(7, 3600.0) == LOOK
    assert pulse.silence(7, 7200.0) == 2 * LOOK


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 5)), min_size=1))
def test_silence_is_bounded(looks):
    """Silence is never negative, never more than the time since the last change, and zero at each change."""
    pulse, now, changed, last = Pulse(), 0.0, 0.0, None
    for beat, later in looks:
        now += later
        if beat != last:
            changed, last = now, beat
        silence = pulse.silence(beat, now)
        assert 0.0 <= silence <= now - changed + 1e-9
        assert changed != now or beat == last
