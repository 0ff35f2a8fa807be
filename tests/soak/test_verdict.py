"""What a soak has to say of what it found."""

from dataclasses import replace

from tests.e2e.watch import Seen, Told
from tests.soak.verdict import Found

GOOD = Found(
    interval=0.1,
    begin=100.0,
    end=101.0,
    source="192.0.2.1",
    adverts=[Seen(100.05 + number / 10, "192.0.2.1", 150) for number in range(10)],
    told=[Told(1.0, "a", True), Told(9.5, "a", True), Told(10.5, "a", True)],
    since=9.0,
    moves=[],
    holders=["a"],
    busy=0.99,
    priorities=[150],
)


def test_a_good_soak():
    """V17: with every advert in time and the address where it was, nothing is wrong, and the figures are told."""
    assert GOOD.wrong() == []
    text = "\n".join(GOOD.report())
    assert "adverts 10 of 10, priority 150" in text
    assert "largest 100.0 ms, at an interval of 100 ms" in text
    assert "largest time between two refreshes of the lease 1.000 s" in text


def test_a_late_advert():
    """V17: adverts further apart than two and a half intervals are wrong, at the begin and at the end as well."""
    assert "600.0 ms between" in replace(GOOD, adverts=GOOD.adverts[:4] + GOOD.adverts[9:]).wrong()[0]
    assert "650.0 ms between" in replace(GOOD, adverts=GOOD.adverts[:4]).wrong()[0]
    assert "1000.0 ms between" in replace(GOOD, adverts=[]).wrong()[0]


def test_a_moved_address():
    """A move that a host tells, one that only its kernel tells, and a second owner at the end are wrong."""
    assert replace(GOOD, moves=["b: active: no advert"]).wrong() == ["the address moved: b: active: no advert"]
    told = [*GOOD.told, Told(10.6, "a", False), Told(10.7, "b", True)]
    assert replace(GOOD, told=told).wrong() == ["a lost the address", "b took the address"]
    assert replace(GOOD, holders=["a", "b"]).wrong() == ["the address is on a, b"]
    other = [*GOOD.adverts, Seen(100.97, "192.0.2.2", 100)]
    assert replace(GOOD, adverts=other).wrong() == ["1 adverts of another host"]


def test_an_idle_machine():
    """A soak whose processors had time to spare says nothing about busy ones, and is wrong."""
    assert "50% only" in replace(GOOD, busy=0.5).wrong()[0]
