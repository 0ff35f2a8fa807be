"""proxy.stats.columns: all workers added up."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from proxy.stats import layout
from proxy.stats.columns import Columns
from proxy.stats.layout import BACKEND_ACTIVE, BACKEND_LATENCY, BACKEND_TOTAL, SERVICE_QUERIES, SERVICE_SESSIONS, Layout
from proxy.stats.table import Table

PLAN = Layout(2, 3)
SERVICE, BACKEND = PLAN.service(1), PLAN.backend(2)


@pytest.fixture
def columns():
    """Make the master's view of two workers, 10 and 11."""
    made = Columns(PLAN)
    made.attach(10, Table.create(PLAN))
    made.attach(11, Table.create(PLAN))
    yield made
    made.close()


def count(columns, worker, **cells):
    """Write as the worker would."""
    written = columns.live[worker].cells
    for name, value in cells.items():
        base = BACKEND if name.startswith("BACKEND") else SERVICE
        written[base + getattr(layout, name)] = value


def test_sums_go_over_all_workers(columns):
    """A cell's value is the sum over the living workers, signed."""
    count(columns, 10, BACKEND_TOTAL=5, BACKEND_ACTIVE=3)
    count(columns, 11, BACKEND_TOTAL=7, BACKEND_ACTIVE=-1)
    assert columns.sum(BACKEND + BACKEND_TOTAL) == 12
    assert columns.sum(BACKEND + BACKEND_ACTIVE) == 2
    assert columns.block(BACKEND, 3) == [2, 0, 12]


def test_a_dead_workers_gauges_go_and_its_counters_stay(columns):
    """Folding corrects `active`: a killed worker's open connections are gone, and its counters stay."""
    count(columns, 10, BACKEND_TOTAL=5, BACKEND_ACTIVE=3, BACKEND_LATENCY=2, SERVICE_QUERIES=9, SERVICE_SESSIONS=4)
    count(columns, 11, BACKEND_TOTAL=1, BACKEND_ACTIVE=1)
    columns.fold(10)
    assert columns.sum(BACKEND + BACKEND_ACTIVE) == 1
    assert columns.sum(BACKEND + BACKEND_TOTAL) == 6
    assert columns.sum(BACKEND + BACKEND_LATENCY) == 2
    assert columns.sum(SERVICE + SERVICE_QUERIES) == 9
    assert columns.sum(SERVICE + SERVICE_SESSIONS) == 0


def test_counters_never_go_back(columns):
    """Through ten deaths and restarts of a worker the total only grows."""
    seen = []
    for life in range(20, 30):
        columns.attach(life, Table.create(PLAN))
        count(columns, life, BACKEND_TOTAL=3)
        seen.append(columns.sum(BACKEND + BACKEND_TOTAL))
        columns.fold(life)
        seen.append(columns.sum(BACKEND + BACKEND_TOTAL))
    assert seen == [3 * (step // 2 + 1) for step in range(20)]


def test_the_header_is_not_added_up(columns):
    """A dead worker's heartbeat, process and magic leave no trace in the base."""
    columns.live[10].cells[layout.HEARTBEAT] = 12345
    columns.live[10].cells[layout.PID] = 77
    columns.fold(10)
    columns.fold(11)
    assert columns.block(0, layout.LOOP_WAKEUPS) == [0] * layout.LOOP_WAKEUPS


def test_a_new_owner_starts_from_zero(columns):
    """A forgotten block reads as zero and counts on from there, though live columns keep the old owner's counts."""
    count(columns, 10, BACKEND_TOTAL=5)
    count(columns, 11, BACKEND_TOTAL=7)
    columns.fold(11)
    columns.forget_backend(2)
    assert columns.block(BACKEND, layout.BACKEND_SIZE) == [0] * layout.BACKEND_SIZE
    count(columns, 10, BACKEND_TOTAL=5 + 2)
    assert columns.sum(BACKEND + BACKEND_TOTAL) == 2
    columns.fold(10)
    assert columns.sum(BACKEND + BACKEND_TOTAL) == 2
    count_service = columns.sum(SERVICE + SERVICE_QUERIES)
    columns.forget_service(1)
    assert count_service == columns.sum(SERVICE + SERVICE_QUERIES) == 0


def test_one_column_a_worker(columns):
    """A second column for a worker that has one is a mistake of the caller, as is another layout."""
    with Table.create(PLAN) as second, pytest.raises(ValueError, match="fold it first"):
        columns.attach(10, second)
    with Table.create(Layout(1, 1)) as other, pytest.raises(ValueError, match="another layout"):
        columns.attach(12, other)


def test_folding_closes_the_column(columns):
    """A hundred worker lives leave no descriptor behind, and folding an unknown worker is harmless."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for life in range(100, 200):
        columns.attach(life, Table.create(PLAN))
        columns.fold(life)
        columns.fold(life)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_sums_can_be_read_by_another_process():
    """The memory of the sums has what was folded into it, and a column that begins with them goes on from there."""
    with closing(Columns(PLAN)) as before, closing(Columns(PLAN)) as after:
        table = Table.create(PLAN)
        before.attach(1, table)
        cell = BACKEND + BACKEND_TOTAL
        table.cells[cell] = 7
        before.fold(1)
        data = os.pread(before.base_fd, 8 * PLAN.counted, 0)
        after.load(memoryview(data).cast("q").tolist())
        assert after.sum(cell) == 7
