"""proxy.stats.translation: counters of another version's layout are found by their names."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.stats import layout as ours
from proxy.stats.layout import Layout
from proxy.stats.translation import LARGEST, Shape, ShapeError, runs

SMALL, LARGE = Layout(2, 3), Layout(4, 8)


def translated(shape, cells, layout):
    """Return our column with what the runs bring from a foreign one."""
    mine = [0] * layout.counted
    for there, here, count in runs(shape, layout):
        mine[here : here + count] = cells[there : there + count]
    return mine


def test_a_larger_column_has_all_counters():
    """With room for more backends, every counter is found at its new place, and the header keeps its own sizes."""
    cells = list(range(1000, 1000 + SMALL.counted))
    found = translated(Shape.of(SMALL), cells, LARGE)
    for slot in range(2):
        for cell in range(len(ours.SERVICE_CELLS)):
            assert found[LARGE.service(slot) + cell] == cells[SMALL.service(slot) + cell]
    for slot in range(3):
        for cell in (*range(len(ours.BACKEND_CELLS)), ours.BACKEND_LATENCY, ours.BACKEND_LATENCY + 95):
            assert found[LARGE.backend(slot) + cell] == cells[SMALL.backend(slot) + cell]
    assert found[ours.HEARTBEAT] == cells[ours.HEARTBEAT]
    assert [found[at] for at in (ours.HEADER_MAGIC, ours.HEADER_SERVICES, ours.HEADER_BACKENDS)] == [0, 0, 0]
    assert found[LARGE.backend(3) :] == [0] * (LARGE.counted - LARGE.backend(3))


def test_another_order_of_cells_is_found_by_name():
    """A version that has its cells in another order, and some others, is read by their names."""
    names = [name for name, _ in ours.SERVICE_CELLS]
    other = [*reversed(names), "tea_made"]
    shape = replace(Shape.of(SMALL), service=tuple(other), service_size=len(other) + 3)
    cells = [0] * shape.cells
    first = shape.header_size + shape.service_size  # of slot 1
    for at, name in enumerate(other):
        cells[first + at] = 1 + (names.index(name) if name in names else 500)
    found = translated(shape, cells, SMALL)
    assert found[SMALL.service(1) : SMALL.service(1) + len(names)] == [1 + at for at in range(len(names))]


def test_histograms_of_another_size_are_left_out():
    """Latencies in other buckets cannot be compared: they begin anew."""
    shape = replace(Shape.of(SMALL), latency_cells=10)
    found = translated(shape, [7] * shape.cells, SMALL)
    assert found[SMALL.backend(0) + ours.BACKEND_LATENCY] == 0
    assert found[SMALL.backend(0) + ours.BACKEND_TOTAL] == 7


@pytest.mark.parametrize(
    "change",
    [
        {"services": -1},
        {"backends": LARGEST},
        {"service_size": 1},
        {"latency": 500},
        {"header_size": 0},
        {"clients": -5},
    ],
)
def test_nonsense_is_refused(change):
    """A shape whose blocks are smaller than their cells, or a column out of all proportion, is refused."""
    with pytest.raises(ShapeError):
        runs(replace(Shape.of(SMALL), **change), SMALL)


NUMBERS = st.integers(-5, 300)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("services", "backends", "clients", "header_size", "service_size", "backend_size", "latency", "latency_cells", "client_size"), NUMBERS)))  # fmt: skip
def test_no_run_leaves_either_column(change):
    """Whatever shape is said, it is refused or all runs are inside both columns."""
    shape = replace(Shape.of(SMALL), **change)
    try:
        found = runs(shape, LARGE)
    except ShapeError:
        return
    for there, here, count in found:
        assert 0 <= there <= there + count <= shape.counted
        assert 0 <= here <= here + count <= LARGE.counted


def test_equal_blocks_are_few_runs():
    """Where only the number of blocks differs, a large column is a handful of runs, however many blocks it has."""
    assert len(runs(Shape.of(Layout(100, 5000)), Layout(200, 9000))) < 30
    assert runs(Shape.of(Layout(0, 0)), SMALL)
