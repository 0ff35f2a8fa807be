"""The mixes of questions: what the servers have, and what they do not have."""

import re
from collections import Counter

from bench.works.dns import HOSTS, query_lines, zone_lines
from bench.works.ldap import searches
from tests.e2e.servers import records


def test_a_tenth_of_the_names_does_not_exist():
    """Of the queries one in ten asks for a name that the zone does not have; all others are answered."""
    names = {re.split(r"\s", line)[0].rstrip(".") for line in [*records("x"), *zone_lines()]}
    asked = [line.split() for line in query_lines(2000)]
    missing = [name for name, _ in asked if name not in names]
    assert len(missing) == 200
    assert all(name.startswith("nothing-") for name in missing)


def test_sizes_are_mixed():
    """The queries are of several types, of short and long names, and of all hosts."""
    asked = [line.split() for line in query_lines(2000)]
    assert Counter(kind for _, kind in asked) == {"A": 1200, "AAAA": 400, "TXT": 400}
    assert {len(name) // 20 for name, _ in asked} >= {0, 1, 3}
    assert len({name for name, kind in asked if kind == "A" and name.startswith("h")}) > HOSTS / 4


def test_searches_are_mixed():
    """The searches are of several sizes, and each is a message with the ID 1."""
    found = searches(40)
    assert len(found) == 40
    assert len({len(one) for one in found}) > 3
    assert all(one[0] == 0x30 for one in found)
