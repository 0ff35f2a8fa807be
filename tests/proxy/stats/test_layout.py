"""proxy.stats.layout: where each counter lies."""

from itertools import pairwise

import pytest

from proxy.stats import layout
from proxy.stats.layout import Layout

BLOCKS = (
    ("", layout.HEADER_CELLS, layout.HEADER_SIZE),
    ("SERVICE_", layout.SERVICE_CELLS, layout.SERVICE_SIZE),
    ("BACKEND_", layout.BACKEND_CELLS, layout.BACKEND_LATENCY),
)


@pytest.mark.parametrize(("prefix", "cells", "size"), BLOCKS)
def test_names_and_constants_agree(prefix, cells, size):
    """Each cell's stable name is that of the constant with its offset, once, and the block has room for all."""
    names = [name for name, _ in cells]
    assert len(set(names)) == len(names) <= size
    for offset, name in enumerate(names):
        if name.startswith("spare_"):
            continue
        constant = getattr(layout, f"HEADER_{name.upper()}", None) if not prefix else None
        assert offset == (getattr(layout, prefix + name.upper()) if constant is None else constant), name


def test_every_constant_of_a_block_has_a_name():
    """No counter can be written that status would not show."""
    for prefix, cells, _ in BLOCKS[1:]:
        ours = {key for key in vars(layout) if key.startswith(prefix)}
        named = {prefix + name.upper() for name, _ in cells if not name.startswith("spare_")}
        assert ours - named <= {f"{prefix}CELLS", f"{prefix}SIZE", f"{prefix}LATENCY", f"{prefix}ERRORS"}


def test_blocks_lie_side_by_side():
    """Header, services and backends follow each other without overlap or gap, up to the last cell."""
    plan = Layout(3, 5)
    starts = [plan.service(slot) for slot in range(3)] + [plan.backend(slot) for slot in range(5)] + [plan.cells]
    widths = [after - before for before, after in pairwise(starts)]
    assert starts[0] == layout.HEADER_SIZE
    assert widths == [layout.SERVICE_SIZE] * 3 + [layout.BACKEND_SIZE] * 5
    assert plan.size == 8 * plan.cells


@pytest.mark.parametrize("slot", [-1, 2])
def test_a_slot_outside_is_refused(slot):
    """A slot outside the layout raises IndexError and never reaches another block."""
    with pytest.raises(IndexError):
        Layout(2, 2).service(slot)
    with pytest.raises(IndexError):
        Layout(2, 2).backend(slot)


def test_room_to_grow():
    """A column has room for twice the configured services and backends, and for at least 64 backends."""
    assert Layout.roomy(1, 2) == Layout(16, 64)
    assert Layout.roomy(20, 100) == Layout(40, 200)


def test_gauges_are_those_of_every_block():
    """The gauges' slices select exactly the cells that are named gauges, in each block."""
    plan = Layout(2, 3)
    found = {cell for gauges in plan.gauges() for cell in range(*gauges.indices(plan.cells))}
    wanted = {cell for cell, (_, kind) in enumerate(layout.HEADER_CELLS) if kind == "gauge"}
    for base, cells in [(plan.service(slot), layout.SERVICE_CELLS) for slot in range(2)] + [
        (plan.backend(slot), layout.BACKEND_CELLS) for slot in range(3)
    ]:
        wanted |= {base + offset for offset, (_, kind) in enumerate(cells) if kind == "gauge"}
    assert found == wanted


def test_errors_are_told_by_reason():
    """The reasons that status shows as a backend's errors point at their own cells."""
    reasons = dict(layout.BACKEND_ERRORS)
    assert reasons["connect_refused"] == layout.BACKEND_CONNECT_REFUSED
    assert reasons["no_answer"] == layout.BACKEND_NO_ANSWER
    assert not {"active", "total", "replies", "spare_6"} & reasons.keys()
