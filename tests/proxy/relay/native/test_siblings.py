"""The other workers' columns, and claims of places that are the host's."""

import pytest

from proxy.relay.native.siblings import Siblings, claim
from proxy.stats.layout import BACKEND_ACTIVE, Layout
from proxy.stats.table import Table

PLAN = Layout(2, 3)
CELL = 1
CLAIMS = 3


class Others(Siblings):
    """What the other workers have, read after read; the last value stays."""

    def __init__(self, *values):
        super().__init__()
        self.values = list(values)

    def sum(self, cell):
        """Return what the next read finds."""
        assert cell == CELL
        return self.values.pop(0) if len(self.values) > 1 else self.values[0]


def claimed(others, taken, most, ahead=0):
    """Claim a place; return whether there was one, and the cells afterwards."""
    cells = memoryview(bytearray(24)).cast("q")
    cells[CELL] = taken
    answer = claim(cells, CELL, others, taken, most, ahead)
    assert cells[0] == cells[2] == 0
    return answer, cells[CELL]


@pytest.mark.parametrize(
    ("theirs", "taken", "most", "ahead", "granted"),
    [
        (0, 0, 1, 0, True),
        (0, 0, 0, 0, False),
        (3, 6, 10, 0, True),
        (4, 6, 10, 0, False),
        (5, 6, 10, 0, False),
        (3, 6, 10, 1, False),
        (2, 6, 10, 1, True),
    ],
)
def test_there_are_only_so_many(theirs, taken, most, ahead, granted):
    """A place is granted while all workers have less than there are, but for those that are left for others."""
    assert claimed(Others(theirs), taken, most, ahead) == (granted, taken + granted)


def test_who_comes_at_the_same_time():
    """A claim that another one meets is taken back and tried again, so that it succeeds if the other has given way."""
    assert claimed(Others(0, 1, 0), 0, 1) == (True, 1)
    assert claimed(Others(0, 1, 1), 0, 1) == (False, 0)
    assert claimed(Others(*(0, 1) * CLAIMS, 0), 0, 1) == (False, 0)


@pytest.mark.parametrize("read", range(1, 3))
def test_two_claims_are_never_both_kept(read):
    """Whenever another worker claims the last place while we do, one of us has it, and each one's cell says so."""
    columns = [memoryview(bytearray(24)).cast("q") for _ in range(2)]
    kept = []

    class Worker(Siblings):
        """What one worker reads of the other; at the first one's read `read` the other claims."""

        def __init__(self, other, reads):
            super().__init__()
            self.other, self.reads = other, reads

        def sum(self, cell):
            self.reads -= 1
            if self.reads == 0:
                kept.append(claim(columns[1], cell, Worker(0, 0), 0, 1))
            return columns[self.other][cell]

    kept.append(claim(columns[0], CELL, Worker(1, read), 0, 1))
    assert sorted(kept) == [False, True]
    assert [column[CELL] for column in columns] == kept[::-1]


@pytest.mark.parametrize("watched", [[], [PLAN.backend(1)], [PLAN.backend(2), PLAN.backend(0)]])
def test_siblings_are_added_up_in_the_order_asked(watched):
    """A worker sees the sum of the others' `active` for each cell it asks for, and zeros without others."""
    siblings = Siblings()
    siblings.watch(watched)
    assert siblings.refresh() == [0] * len(watched)
    mine = [Table.create(PLAN), Table.create(PLAN)]
    for worker, table in enumerate(mine):
        siblings.set(worker, Table.attach(table.readonly_fd(), PLAN))
        for slot in range(3):
            table.cells[PLAN.backend(slot) + BACKEND_ACTIVE] = 10 * slot + 1
    slots = {PLAN.backend(slot): slot for slot in range(3)}
    assert siblings.refresh() == [2 * (10 * slots[cell] + 1) for cell in watched]
    mine[0].cells[PLAN.backend(2)] = 0
    mine[0].cells[PLAN.backend(0)] = 0
    mine[0].cells[PLAN.backend(1)] = 0
    assert siblings.refresh() == [10 * slots[cell] + 1 for cell in watched]
    siblings.drop(1)
    siblings.drop(1)
    assert siblings.refresh() == [0] * len(watched)
    siblings.close()
    for table in mine:
        table.close()
