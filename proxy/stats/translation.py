"""Reads a column of another version's layout, or of another size [pure].

A service or backend keeps its slot number, so only the places of the cells differ: they are found by their names.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from proxy.stats import layout as ours
from proxy.stats.histogram import CELLS
from proxy.stats.layout import Layout

LARGEST: Final = 1 << 24
"""Cells of a column at most."""

_OWN: Final = (ours.HEADER_MAGIC, ours.HEADER_SERVICES, ours.HEADER_BACKENDS)
"""What says how a column is laid out."""

Run = tuple[int, int, int]
"""(first cell in the foreign column, first cell in ours, how many)"""


class ShapeError(Exception):
    """What another version says of its columns makes no sense."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Where the cells of a column are: sizes in cells, and the names of the cells of each block in their order."""

    magic: int
    services: int
    backends: int
    clients: int
    header: tuple[str, ...]
    header_size: int
    service: tuple[str, ...]
    service_size: int
    backend: tuple[str, ...]
    backend_size: int
    latency: int
    latency_cells: int
    client_size: int

    @classmethod
    def of(cls, layout: Layout) -> Self:
        """Return the shape of a layout of this version."""
        return cls(
            ours.MAGIC, layout.services, layout.backends, layout.clients,
            _names(ours.HEADER_CELLS), ours.HEADER_SIZE,
            _names(ours.SERVICE_CELLS), ours.SERVICE_SIZE,
            _names(ours.BACKEND_CELLS), ours.BACKEND_SIZE,
            ours.BACKEND_LATENCY, CELLS, ours.CLIENT_SIZE,
        )  # fmt: skip

    def tree(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    def check(self) -> None:
        """Raise ShapeError if a block is smaller than the cells in it, or a column is out of all proportion."""
        sizes = (self.services, self.backends, self.clients, self.header_size, self.service_size, self.backend_size)
        if min(*sizes, self.latency, self.latency_cells, self.client_size) < 0 or self.cells > LARGEST:
            raise ShapeError(f"a column of {self.services} services and {self.backends} backends makes no sense")
        ends = (
            (len(self.header), self.header_size),
            (len(self.service), self.service_size),
            (max(len(self.backend), self.latency + self.latency_cells), self.backend_size),
        )
        if any(cells > size for cells, size in ends):
            raise ShapeError("a block of counters is smaller than the cells in it")

    @property
    def backend_block(self) -> tuple[object, ...]:
        """What makes the blocks of backends equal."""
        return self.backend, self.backend_size, self.latency, self.latency_cells

    @property
    def counted(self) -> int:
        """The number of cells before the clients' cells."""
        return self.header_size + self.services * self.service_size + self.backends * self.backend_size

    @property
    def cells(self) -> int:
        """The column's length in cells."""
        return self.counted + self.clients * self.client_size


def runs(foreign: Shape, layout: Layout) -> list[Run]:
    """Return the runs of cells that both columns have, without the clients' cells.

    Raises ShapeError if the foreign shape makes no sense.
    """
    foreign.check()
    mine = Shape.of(layout)
    services, backends = min(foreign.services, mine.services), min(foreign.backends, mine.backends)
    found = [run for run in _block(foreign.header, mine.header, 0, 0) if run[1] not in _OWN]
    first = foreign.header_size + foreign.services * foreign.service_size
    if (foreign.service, foreign.service_size) == (mine.service, mine.service_size):
        found.append((foreign.header_size, layout.service(0), services * mine.service_size))
        services = 0  # all blocks at once
    for slot in range(services):
        there = foreign.header_size + slot * foreign.service_size
        found += _block(foreign.service, mine.service, there, layout.service(slot))
    if foreign.backend_block == mine.backend_block:
        found.append((first, layout.backend(0), backends * mine.backend_size))
        backends = 0
    for slot in range(backends):
        there, here = first + slot * foreign.backend_size, layout.backend(slot)
        found += _block(foreign.backend, mine.backend, there, here)
        if foreign.latency_cells == mine.latency_cells:
            found.append((there + foreign.latency, here + mine.latency, mine.latency_cells))
    return list(_joined(found))


def _names(cells: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(name for name, _ in cells)


def _block(foreign: Sequence[str], mine: Sequence[str], there: int, here: int) -> Iterator[Run]:
    places = {name: at for at, name in enumerate(foreign)}
    for at, name in enumerate(mine):
        if name in places:
            yield there + places[name], here + at, 1


def _joined(found: Sequence[Run]) -> Iterator[Run]:
    """Join runs that follow each other on both sides."""
    last: Run | None = None
    for run in found:
        if last is not None and (last[0] + last[2], last[1] + last[2]) == run[:2]:
            last = (last[0], last[1], last[2] + run[2])
            continue
        if last is not None:
            yield last
        last = run
    if last is not None:
        yield last
