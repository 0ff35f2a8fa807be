"""Sums of the workers' columns: the master's view of all workers.

The master keeps a *base* column for the counters of dead workers, in a sealed memfd, which a successor can read. `fold`
adds a dead worker's counters to it, but not its gauges. So `active` is right again after a crash, because the worker's connections are gone
with it, and counters never decrease, whichever worker dies.
"""

import mmap
import os
from array import array
from collections.abc import Mapping, Sequence
from operator import add
from typing import Final

from proxy.stats import sealed
from proxy.stats.layout import BACKEND_SIZE, CELL_BYTES, SERVICE_SIZE, Layout
from proxy.stats.table import Table

_RUN: Final = 128
_ZEROS: Final = bytes(8 * _RUN)


class Columns:
    """The base column and the live ones, by worker life (an integer that the caller gives only one live worker)."""

    def __init__(self, layout: Layout) -> None:
        """Begin with zeros; raises OSError if memory or descriptors run out."""
        self.layout = layout
        size = CELL_BYTES * layout.counted
        self.base_fd = sealed.zeroed("base", size)
        """The memory of the base column."""
        self._map = mmap.mmap(self.base_fd, size)
        self._base = memoryview(self._map).cast("q")
        self._live: dict[int, Table] = {}

    @property
    def live(self) -> Mapping[int, Table]:
        """The live columns by worker life."""
        return self._live

    def attach(self, worker: int, table: Table) -> None:
        """Add a worker's column to the sums and own it; raise ValueError if that worker still has another column."""
        if worker in self._live:
            raise ValueError(f"worker {worker} has a column already: fold it first")
        if table.layout != self.layout:
            raise ValueError("the column has another layout")
        self._live[worker] = table

    def fold(self, worker: int) -> None:
        """Add a dead worker's counters to the base, drop its gauges, and close its column.

        Call it when the worker's process is gone, because later counts are lost. It does nothing for a worker without a
        column.
        """
        table = self._live.pop(worker, None)
        if table is None:
            return
        base, cells = self._base, table.cells
        for first in range(0, len(base), _RUN):
            run = slice(first, first + _RUN)
            if cells[run].tobytes() != _ZEROS[: 8 * len(base[run])]:  # most blocks have no owner
                base[run] = array("q", map(add, base[run], cells[run].tolist()))
        for gauges in self.layout.gauges():
            base[gauges] = array("q", bytes(8 * len(range(*gauges.indices(len(base))))))
        table.close()

    def load(self, cells: Sequence[int]) -> None:
        """Begin with these sums, of as many cells as are counted, instead of zeros."""
        self._base[:] = array("q", cells)

    def forget(self, first: int, size: int) -> None:
        """Make a block read as zero for its next owner, without writing to a worker's column.

        The live columns keep the counts for the previous owner; the base gets their negative sum.
        """
        self._base[first : first + size] = array("q", bytes(8 * size))
        self._base[first : first + size] = array("q", [-cell for cell in self.block(first, size)])

    def forget_service(self, slot: int) -> None:
        """Make a service's block read as zero."""
        self.forget(self.layout.service(slot), SERVICE_SIZE)

    def forget_backend(self, slot: int) -> None:
        """Make a backend's block read as zero."""
        self.forget(self.layout.backend(slot), BACKEND_SIZE)

    def sum(self, cell: int) -> int:
        """Return the sum of one cell over all dead and live workers."""
        return self._base[cell] + sum(table.cells[cell] for table in self._live.values())

    def block(self, first: int, size: int) -> list[int]:
        """Return `size` cells from `first` on, each summed over all dead and live workers."""
        total = self._base[first : first + size].tolist()
        for table in self._live.values():
            total = list(map(add, total, table.cells[first : first + size].tolist()))
        return total

    def cell(self, worker: int, cell: int, default: int = 0) -> int:
        """Return a cell of one worker's column, mostly of its header; `default` if the worker has none."""
        table = self._live.get(worker)
        return default if table is None else table.cells[cell]

    def close(self) -> None:
        """Fold every column, and release the memory of the sums; harmless if called twice."""
        for worker in list(self._live):
            self.fold(worker)
        if self.base_fd >= 0:
            self._base.release()
            self._map.close()
            os.close(self.base_fd)
            self.base_fd = -1
