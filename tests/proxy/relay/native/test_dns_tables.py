"""The table of a socket's query IDs, against a model."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.native.dns_tables import LATE_KEPT, Ids

# Few IDs that share their places, and any others.
IDENTS = st.one_of(
    st.integers(0, 40), st.sampled_from([number << 8 | 3 for number in range(12)]), st.integers(0, 65535)
)


@given(st.lists(st.tuples(st.sampled_from(["add", "add", "remove", "give up"]), IDENTS), max_size=300))
def test_ids_are_found_whatever_came_before(steps):
    """U3: after any additions, removals and IDs given up, each ID is pending, late or unknown as it should be."""
    table = Ids()
    model: dict[int, str] = {}
    for what, ident in steps:
        if what == "add" and ident not in model:
            table.add(ident)
            model[ident] = "pending"
        elif what == "remove" and model.get(ident) == "pending":
            table.remove(ident)
            del model[ident]
        elif what == "give up":
            table.give_up(ident)
            model[ident] = "late"
    assert {ident: table.kind(ident) for _, ident in steps} == {ident: model.get(ident) for _, ident in steps}
    kinds = list(model.values())
    assert table.counts == (kinds.count("pending"), kinds.count("late"))


def test_half_of_all_ids_may_be_pending():
    """U18: the table holds 32,768 pending IDs and the late ones, finds each, and is empty when they are over."""
    table = Ids()
    for ident in range(0, 65536, 2):
        table.add(ident)
    assert table.counts == (32768, 0)
    assert all(table.kind(ident) == (None if ident % 2 else "pending") for ident in range(65536))
    for ident in range(0, 65536, 2):
        table.give_up(ident)
    assert table.counts == (0, LATE_KEPT)
    late = [ident for ident in range(65536) if table.kind(ident)]
    assert late == list(range(65536 - 2 * LATE_KEPT, 65536, 2))
