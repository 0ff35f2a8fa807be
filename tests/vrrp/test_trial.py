"""Settings that an advert can carry, and settings that none can."""

import pytest

from vrrp.settings import RouterSettings
from vrrp.trial import unfit

ADDRESSES = ("198.51.100.10/24", "2001:db8::10/64")


@pytest.mark.parametrize("family", [4, 6])
def test_what_an_advert_carries(family):
    """Ordinary settings make an advert of each IP version."""
    assert unfit(RouterSettings("outside", "eth0", 51, ADDRESSES), family) == ""


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"advert_interval": 60.0}, "interval"),
        ({"advert_interval": 0.5, "version": 2}, "interval"),
        ({"addresses": tuple(f"10.0.{n // 200}.{n % 200}/32" for n in range(256))}, "addresses"),
    ],
)
def test_what_none_carries(settings, why):
    """R2: settings that no advert can carry are named before they are in force."""
    given = {"addresses": ADDRESSES} | settings
    assert why in unfit(RouterSettings("outside", "eth0", 51, **given), 4)
