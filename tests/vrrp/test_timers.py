"""The times of the RFC."""

import math
from fractions import Fraction

import pytest

from vrrp.timers import ActiveDownTimer, active_down_interval, skew_time


def test_exact():
    """V3: skew and down interval are exact for every priority and interval that can be written in centiseconds."""
    for priority in range(1, 256):
        for centiseconds in (1, 10, 100, 333, 4095):
            interval = centiseconds / 100
            exact = Fraction(256 - priority, 256) * Fraction(interval)
            assert math.isclose(skew_time(priority, interval), exact, rel_tol=1e-15)
            assert math.isclose(active_down_interval(priority, interval), 3 * Fraction(interval) + exact, rel_tol=1e-15)


def test_all_skews_differ():
    """V3: no two priorities fire at once, at 10 ms as well: a truncated skew would let all backups take over together."""
    assert len({skew_time(priority, 0.01) for priority in range(1, 256)}) == 255
    assert skew_time(255, 1.0) == 1 / 256
    assert skew_time(1, 1.0) == 255 / 256


def test_priority_moves_the_deadline():
    """V3: the deadline follows the priority without the timer being set again."""
    timer = ActiveDownTimer(1.0)
    timer.listen(10.0)
    assert timer.deadline(100) == 10 + 3 + 156 / 256
    assert timer.deadline(200) == 10 + 3 + 56 / 256


def test_hasten_shortens_only():
    """V4: priority 0 shortens the wait to the skew, and never makes it longer."""
    timer = ActiveDownTimer(1.0)
    timer.listen(10.0)
    timer.hasten(11.0)
    assert timer.deadline(100) == 11 + 156 / 256
    timer.hasten(11.5)
    assert timer.deadline(100) == 11 + 156 / 256
    timer.listen(20.0)
    timer.hasten(23.1)
    assert timer.deadline(100) == 23 + 156 / 256


@pytest.mark.parametrize("act", ["stop", "hasten"])
def test_stopped(act):
    """V4: a stopped timer never fires, whoever leaves meanwhile."""
    timer = ActiveDownTimer(1.0)
    timer.listen(1.0)
    timer.stop()
    if act == "hasten":
        timer.hasten(2.0)
    assert timer.deadline(100) == math.inf


def test_listen_again():
    """V3: listening again takes one interval and the skew."""
    timer = ActiveDownTimer(0.1)
    timer.listen_again(50.0)
    assert timer.deadline(128) == pytest.approx(50 + 0.1 + 0.05)
