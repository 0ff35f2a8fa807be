"""proxy.cli.status_routers: the rows and the details of virtual routers."""

import pytest

from proxy.cli.status_routers import router_lines, routers_table
from proxy.moments import rfc3339


@pytest.mark.parametrize("width", [40, 80, 120])
def test_nothing_is_cut(make, width):
    """On a terminal of any width all words of a router are there, and no line is wider than the least table."""
    router = make.router(
        effective_priority=30, standby=True, standby_since=rfc3339(1880.0), standby_reason="standby requested by uid 0",
        priority_parts={"configured": 150, "service dns, web and 3 more": -60, "probe gateway": -60},
    )  # fmt: skip
    lines = routers_table([router], 2000.0, coloured=False, width=width)
    said = " ".join(" ".join(lines).split())
    assert "priority 150 with service dns, web and 3 more -60, probe gateway -60" in said
    assert "standby requested by uid 0, 2m ago" in said
    assert max(map(len, lines)) <= max(width, 72)


def test_a_priority_that_is_not_known(make):
    """While the vrrp process does not answer, what is not known is not made up."""
    router = make.router(effective_priority=None, since=None, peer=None, last_change=None, priority_parts={})
    assert routers_table([router], 2000.0, coloured=False, width=None)[-1].split() == [
        "inside", "backup", "?", "of", "150", "-", "10.0.0.10/32",
    ]  # fmt: skip
    words = " ".join(" ".join(router_lines(router, 2000.0, coloured=False, width=80)).split())
    assert "no advert was received yet" in words
    assert "standby no" in words


def test_a_counter_without_a_meaning_is_shown(make):
    """A counter that a newer daemon has is shown by its name alone."""
    lines = router_lines(make.router(counters={"novel": 2}), 2000.0, coloured=False, width=80)
    assert lines[-1].split() == ["novel", "2"]
