"""proxy.status.sampler: per second, and lately."""

import pytest

from proxy.status.sampler import STEP, STEPS, Sampler


def test_the_rate_is_that_of_the_last_interval():
    """A rate is what the total grew between the last two samples, divided by the time between them."""
    sampler = Sampler()
    sampler.sample(100.0, [("a", 1000)], lambda key: ())
    assert sampler.rate("a") == 0.0
    sampler.sample(101.0, [("a", 1500)], lambda key: ())
    assert sampler.rate("a") == 500.0
    sampler.sample(103.0, [("a", 1500)], lambda key: ())
    assert sampler.rate("a") == 0.0


def test_a_sliver_of_time_makes_no_rate():
    """A sample right after the last is ignored rather than blown up."""
    sampler = Sampler()
    sampler.sample(100.0, [("a", 0)], lambda key: ())
    sampler.sample(101.0, [("a", 10)], lambda key: ())
    sampler.sample(101.001, [("a", 20)], lambda key: ())
    assert sampler.rate("a") == 10.0
    sampler.sample(102.0, [("a", 20)], lambda key: ())
    assert sampler.rate("a") == pytest.approx(10.0)


def test_a_slot_that_changed_hands_has_no_negative_rate():
    """A total that fell back starts anew; a key that is gone has none."""
    sampler = Sampler()
    sampler.sample(0.0, [("a", 100)], lambda key: (50,))
    sampler.sample(1.0, [("a", 3)], lambda key: (1,))
    assert sampler.rate("a") == 0.0
    assert sampler.recent("a", (2,)) == [1]
    sampler.sample(2.0, [], dict)
    assert sampler.rate("a") == 0.0


def test_latencies_are_those_of_the_last_minute():
    """What was counted within the last minute is seen, what is older is not."""
    sampler = Sampler()
    sampler.sample(0.0, [("a", 5)], lambda key: (5, 0))
    assert sampler.recent("a", (6, 0)) == [1, 0]
    for second in range(1, int(STEP * STEPS) - 5):
        sampler.sample(float(second), [("a", 6)], lambda key: (6, 0))
    assert sampler.recent("a", (6, 2)) == [1, 2]
    for second in range(int(STEP * STEPS) - 5, int(STEP * STEPS) + 15):
        sampler.sample(float(second), [("a", 6)], lambda key: (6, 0))
    assert sampler.recent("a", (6, 2)) == [0, 2]


def test_an_unknown_key_shows_all_it_has():
    """Before the first sample the histogram is taken as it is."""
    assert Sampler().recent("new", (1, 2)) == [1, 2]
