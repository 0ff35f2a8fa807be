"""The vocabulary between router and shell."""

import re
from pathlib import Path

import vrrp.events
from tests.vrrp.transcript import DIRECTORY, configuration
from vrrp.events import COUNTERS


def test_counters_are_the_listed_ones():
    """V1, V10: whatever a router counts is in the list of counters, and every listed one is counted in a transcript."""
    counted = {
        name
        for file in DIRECTORY.glob("*.txt")
        for name in re.findall(r"^  (?:\S+ )?count (\w+)$", file.read_text(), re.MULTILINE)
    }
    assert counted == set(COUNTERS)


def test_every_event_and_command_is_described():
    """V2: each value that crosses between router and shell is frozen and says what it means."""
    source = Path(vrrp.events.__file__).read_text()
    assert source.count("@dataclass(frozen=True, slots=True)") == len(re.findall(r"^class ", source, re.MULTILINE))
    assert len(re.findall(r'^class .*\n    """', source, re.MULTILINE)) == len(
        re.findall(r"^class ", source, re.MULTILINE)
    )


def test_family():
    """V2: the family of a router is that of its addresses."""
    assert configuration(["r"]).family == 4
    assert configuration(["r", "family=6"]).family == 6
