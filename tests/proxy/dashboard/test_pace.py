"""proxy.dashboard.pace: how often the dashboard looks."""

import pytest

from proxy.dashboard.pace import again, interval


@pytest.mark.parametrize(
    ("spent", "waited", "seconds"),
    [(0.0, 0.0, 1.0), (0.01, 0.02, 1.0), (0.1, 0.0, 2.0), (0.0, 0.3, 3.0), (9.0, 9.0, 5.0)],
)
def test_what_costs_more_is_done_less_often(spent, waited, seconds):
    """It looks at most once a second, and takes a twentieth of a processor and a tenth of the daemon's time at most."""
    assert interval(spent, waited) == pytest.approx(seconds)


def test_it_goes_on_trying():
    """While the daemon is away it is asked again and again, more slowly but never more rarely than every five seconds."""
    assert [again(failures) for failures in (1, 2, 3, 4, 100)] == [1.0, 2.0, 5.0, 5.0, 5.0]
