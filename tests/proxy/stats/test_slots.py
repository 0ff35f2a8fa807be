"""proxy.stats.slots: the owners of the blocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.stats.slots import Slots, SlotsFullError


def test_a_key_that_stays_keeps_its_slot():
    """On a reload a key that stays keeps its slot, a new key gets a free slot, and only that slot is returned as new."""
    slots = Slots(4)
    assert slots.assign(["a", "b"]) == [0, 1]
    assert slots.assign(["c", "b"]) == [2]
    assert (slots["c"], slots["b"]) == (2, 1)
    assert [slots.key_at(slot) for slot in range(4)] == [None, "b", "c", None]
    with pytest.raises(KeyError):
        slots["a"]


def test_room_can_be_asked_for():
    """`check` refuses what `assign` would refuse, held slots included, and changes nothing."""
    slots = Slots(2)
    slots.assign(["a"])
    slots.hold("worker 0")
    slots.check(["a", "b"])
    for keys in (["a", "b", "c"], ["b", "c"]):
        with pytest.raises(SlotsFullError):
            slots.check(keys)
    assert (slots["a"], len(slots), "b" in slots) == (0, 1, False)


def test_the_slot_that_is_free_for_longest():
    """A slot gets a new owner as late as possible: unused slots come first, then slots in the order of release."""
    slots = Slots(3)
    slots.assign(["a", "b"])
    slots.assign(["b"])
    slots.assign(["b", "c"])
    slots.assign(["c"])
    assert slots.assign(["c", "d"]) == [0]
    assert slots.assign(["c", "d", "e"]) == [1]


def test_a_slot_that_a_worker_references_is_not_reused():
    """A removed backend's slot waits until every worker that knew it has confirmed the new configuration or died."""
    slots = Slots(3)
    slots.assign(["a"])
    slots.hold("worker 0")
    slots.hold("worker 1")
    assert slots.assign(["b"]) == [1]
    slots.settle("worker 0")
    assert slots.assign(["b", "c"]) == [2]
    slots.release("worker 1")
    assert slots.assign(["b", "c", "d"]) == [0]


def test_a_key_that_comes_back_does_not_meet_its_own_past():
    """A backend removed and added again before the workers confirmed gets a fresh slot."""
    slots = Slots(2)
    slots.assign(["a"])
    slots.hold("worker")
    slots.assign([])
    assert slots.assign(["a"]) == [1]


def test_too_many_change_nothing():
    """A configuration that needs more slots than there are is refused whole."""
    slots = Slots(2)
    slots.assign(["a", "b"])
    slots.hold("worker")
    with pytest.raises(SlotsFullError, match="1 removed but still in use by workers"):
        slots.assign(["a", "c"])
    assert (slots["a"], slots["b"], len(slots)) == (0, 1, 2)


@given(
    st.lists(st.one_of(st.lists(st.integers(0, 5), max_size=4), st.sampled_from(["x", "y", "-x", "-y"])), max_size=30)
)
def test_no_slot_has_two_owners(acts):
    """Whatever is assigned, held, settled and released: no slot is given away while its owner or a holder needs it."""
    slots = Slots(8)
    held = {}
    for act in acts:
        before = {key: slots[key] for key in slots._by_key}
        if isinstance(act, list):
            try:
                new = slots.assign(act)
            except SlotsFullError:
                continue
            assert not set(new) & {slot for needed in held.values() for slot in needed}
            assert len({slots[key] for key in act}) == len(set(act))
            assert all(slots[key] == before[key] for key in act if key in before)
        elif act.startswith("-"):
            slots.release(act[1:])
            held.pop(act[1:], None)
        else:
            slots.hold(act)
            held.setdefault(act, set()).update(before.values())


def test_slots_of_another_daemon():
    """A successor's keys keep the slots that they had; a slot that only the predecessor's workers use gets no new owner yet."""
    before = Slots(4)
    before.assign(["a", "b", "c"])
    before.hold("worker")
    before.assign(["a", "c"])
    after = Slots(4)
    after.restore(before.rows(), "former")
    assert after.assign(["c", "d", "a"]) == [3]
    assert (after["a"], after["c"], after["d"]) == (0, 2, 3)
    with pytest.raises(SlotsFullError):
        after.assign(["a", "c", "d", "e"])
    after.release("former")
    assert after.assign(["a", "c", "d", "e"]) == [1]


def test_rows_of_another_daemon_that_do_not_fit():
    """A slot outside the capacity, one that is there twice, and a key that is there twice are left out."""
    slots = Slots(2)
    slots.restore([("a", 0, True), ("b", 0, True), ("a", 1, True), ("c", 2, True), ("d", -1, True)], "former")
    assert slots.rows() == [("a", 0, True)]
