"""Acts on admin states as rows: what survives a restart, and what a successor gets."""

import json
import math

import pytest

from proxy.backends.admin_acts import Act, act_of, row_of, to_save

KEY = ("dns", "ns2")


def test_what_is_saved_comes_back():
    """R9: a saved act comes back with its author, reason and the file's state, and without its deadline; others do not."""
    act = Act(
        "drain", "uid 7", "new disks", 5.0, saved=True, began=9.0, until=10.0, latest=11.0, over=True, filed="maint"
    )
    (row,) = json.loads(json.dumps(to_save({KEY: act, ("dns", "a"): Act("maint", "uid 0", None, 1.0)})))
    assert (row["act"], row["service"], row["backend"]) == ("drain", *KEY)
    assert act_of("drain", row) == Act("drain", "uid 7", "new disks", 5.0, saved=True, filed="maint")


@pytest.mark.parametrize("until", [10.5, math.inf])
def test_a_successor_has_all(until):
    """R12: the row for a successor has the deadlines as well, and whether it is saved."""
    act = Act("drain", "uid 7", None, 5.0, began=9.0, until=until, latest=math.inf, over=True)
    assert act_of("drain", json.loads(json.dumps(row_of(KEY, "drain", act)))) == act


@pytest.mark.parametrize(
    "wrong", [{"reason": 5}, {"at": "x"}, {"filed": "off"}, {"until": "soon"}, {"by": None, "at": None}]
)
def test_an_invalid_row(wrong):
    """A row that makes no sense is refused."""
    row = {"service": "dns", "backend": "ns2", "by": "uid 0", "reason": None, "at": 1.0, **wrong}
    with pytest.raises((KeyError, TypeError, ValueError)):
        act_of("drain", row)
