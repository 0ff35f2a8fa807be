"""The effective priority."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrrp.fitness import Fitness


@pytest.mark.parametrize(
    ("configured", "parts", "expected"),
    [
        (100, (), 100),
        (100, (("dns", -60),), 40),
        (100, (("dns", -60), ("gateway", -60)), 1),
        (100, (("bonus", 200),), 254),
        (254, (("bonus", 1),), 254),
        (1, (("dns", -1),), 1),
        (255, (("dns", -60),), 255),
        (255, (), 255),
    ],
)
def test_clamp(configured, parts, expected):
    """V7, V11: parts add up and are clamped to 1-254; an owner is 255 whatever it tracks."""
    fitness = Fitness(configured)
    fitness.parts = parts
    assert fitness.effective == expected


@given(
    configured=st.integers(1, 255),
    amounts=st.lists(st.integers(-254, 254), max_size=4),
    last_resort=st.booleans(),
    group=st.none() | st.integers(1, 255),
)
def test_parts_add_up(configured, amounts, last_resort, group):
    """V11: the named parts add up to the effective priority, which is 1-255 and never above the group's."""
    fitness = Fitness(configured)
    fitness.parts = tuple((f"part {number}", amount) for number, amount in enumerate(amounts))
    fitness.last_resort, fitness.group = last_resort, group
    assert sum(amount for _, amount in fitness.explained) == fitness.effective
    assert fitness.explained[0] == ("configured", configured)
    assert 1 <= fitness.effective <= (group or 255)
    assert fitness.effective == 1 or not last_resort


def test_last_resort():
    """V18: without its master an owner, too, is at priority 1."""
    fitness = Fitness(255)
    fitness.last_resort = True
    assert fitness.explained == (("configured", 255), ("last resort", -254))


def test_fault_reason():
    """V11: the reason of a fault names all causes, oldest first."""
    fitness = Fitness(100)
    fitness.faults = {"the link is down": None, "probe gateway": None}
    assert fitness.fault_reason == "the link is down; probe gateway"
