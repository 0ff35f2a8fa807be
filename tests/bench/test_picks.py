"""What `python -m bench picks` prints."""

import re

from bench import picks
from proxy.balance.names import SCHEDULERS


def test_every_scheduler_has_its_figures(monkeypatch):
    """The table has a line for each scheduler, with its alias and a figure for few and for many backends."""
    monkeypatch.setattr(picks, "PICKS", 200)
    monkeypatch.setattr(picks, "COUNTS", (2, 40))
    lines = picks.report(1).splitlines()
    assert lines[0].split() == ["ns", "a", "pick", "2", "backends", "40", "backends"]
    rows = [re.fullmatch(r"([a-z-]+) +([a-z]+)? +(-?[\d,]+) +(-?[\d,]+)", line) for line in lines[1:-1]]
    assert [row[1] for row in rows] == list(SCHEDULERS)
    assert [row[2] for row in rows][:3] == ["rr", "lc", "sed"]
    assert lines[-1].startswith("hashing a client")
