"""Versions and releases of the Debian package."""

import subprocess
from itertools import pairwise

import pytest

from shipping.release import Release, debian_version
from tests.e2e.process import program

TWELVE, THIRTEEN = Release("12", (3, 11), "amd64"), Release("13", (3, 13), "amd64")
ASCENDING = [
    debian_version("0.2.0.dev1", TWELVE),
    debian_version("0.2.0a1", TWELVE),
    debian_version("0.2.0rc1", THIRTEEN),
    debian_version("0.2.0", TWELVE),
    debian_version("0.2.0", THIRTEEN),
    debian_version("0.2.1", TWELVE),
    debian_version("0.10.0", TWELVE),
]


def test_a_version_names_its_release():
    """The package of each release has a version of its own."""
    assert (debian_version("0.2.0", TWELVE), TWELVE.codename) == ("0.2.0-1+deb12", "bookworm")
    assert debian_version("0.2.0rc1", THIRTEEN) == "0.2.0~rc1-1+deb13"


@pytest.mark.parametrize(("lower", "higher"), list(pairwise(ASCENDING[1:])))
def test_dpkg_orders_them(lower, higher):
    """Dpkg upgrades from a pre-release to its release, and from Debian 12's package to Debian 13's."""
    subprocess.run([program("dpkg"), "--compare-versions", lower, "lt", higher], check=True)
