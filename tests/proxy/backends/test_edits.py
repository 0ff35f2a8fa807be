"""Changes of lists and weights as rows: what survives a restart, and what a successor gets."""

import json

import pytest

from proxy.backends.edits import Addition, Edit, Edits, Weighing, parsed

A, B, C = ("dns", "192.0.2.1"), ("dns", "192.0.2.2"), ("web", "192.0.2.3")


def edits(saved=True):
    """One change of each kind."""
    return Edits(
        {A: Addition("uid 1", 1.0, saved, weight=None)},
        {B: Edit("uid 2", 2.0, saved)},
        {C: Weighing("uid 3", 3.0, saved, weight=5, filed=1)},
    )


def test_what_is_saved_comes_back():
    """R9: the rows of saved changes make the same changes again, also as JSON; those of others are not there."""
    rows = edits().to_save()
    assert parsed(json.loads(json.dumps(rows))) == edits()
    assert edits(saved=False).to_save() == []


def test_a_successor_has_all():
    """R12: the rows for a successor have what is not saved as well, and what is leaving."""
    some = edits(saved=False)
    some.removed[A] = Edit("uid 4", 4.0)
    some.weights[B] = Weighing("uid 5", 5.0, saved=True, weight=0, filed=3)
    assert parsed(json.loads(json.dumps(some.rows()))) == some


def test_what_is_leaving_is_not_saved():
    """R9: an added backend that is leaving is not saved, nor is its removal, nor the weight of a removed one."""
    some = edits()
    some.removed[A] = Edit("uid 4", 4.0, saved=True)
    some.weights[B] = Weighing("uid 5", 5.0, saved=True, weight=0, filed=3)
    assert [(row["act"], row["backend"]) for row in some.to_save()] == [("remove", B[1]), ("weight", C[1])]


def test_other_acts_are_not_ours():
    """Rows of other acts are left out."""
    assert parsed([{"act": "drain", "service": "dns", "backend": "a"}]) == Edits()


def test_a_copy_is_independent():
    """What is done to a copy does not change the original."""
    some = edits()
    copy = some.copy()
    copy.added.clear()
    copy.removed.clear()
    copy.weights.clear()
    assert some == edits()


@pytest.mark.parametrize("weight", [-1, 65536, 1.5, True, "5", None])
def test_no_weight(weight):
    """A row whose weight is none is refused."""
    row = {"act": "weight", "service": "dns", "backend": "a", "by": "", "at": 0, "filed": 1, "weight": weight}
    with pytest.raises(ValueError, match="is not a weight"):
        parsed([row])
