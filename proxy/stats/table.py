"""A column of cells in a sealed memfd: one worker writes it, and all other processes read it.

The master makes one for each worker life. It gives the worker a writable descriptor, and the other processes read-only
ones. Aligned 8-byte loads and stores are atomic on the supported machines, so there is no lock.
"""

import fcntl
import mmap
import os
from types import TracebackType
from typing import Self

from proxy.stats import sealed
from proxy.stats.layout import HEADER_BACKENDS, HEADER_MAGIC, HEADER_SERVICES, MAGIC, Layout


class TableError(Exception):
    """The descriptor is not a column of this layout: the sender made a mistake, or runs another version."""


class Table:
    """One worker's column, mapped into this process.

    `cells` is a memoryview of signed 64-bit integers, in the order of `layout`. `fd` stays open until `close`.
    """

    __slots__ = ("_map", "_view", "cells", "fd", "layout")

    def __init__(self, fd: int, layout: Layout, *, writable: bool) -> None:
        self.fd = fd
        self.layout = layout
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._map = mmap.mmap(fd, layout.size, mmap.MAP_SHARED, protection)
        self._view = memoryview(self._map)
        self.cells: memoryview[int] = self._view.cast("q")

    @classmethod
    def create(cls, layout: Layout) -> Self:
        """Make a zeroed, sealed column, mapped for writing; raise OSError if memory or descriptors run out."""
        fd = sealed.zeroed("stats", layout.size)
        try:
            table = cls(fd, layout, writable=True)
        except BaseException:
            os.close(fd)
            raise
        table.cells[HEADER_SERVICES] = layout.services
        table.cells[HEADER_BACKENDS] = layout.backends
        table.cells[HEADER_MAGIC] = MAGIC
        return table

    @classmethod
    def attach(cls, fd: int, layout: Layout, *, writable: bool = False) -> Self:
        """Map a column that another process made, and own `fd`.

        Raises TableError, and the caller still owns `fd`, if the descriptor has another size or layout, is not sealed, or
        is not open for writing although `writable` is set.
        """
        try:
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
            size = os.fstat(fd).st_size
        except OSError as error:
            raise TableError(f"descriptor {fd} is not a sealed memory file: {error}") from error
        if not seals & fcntl.F_SEAL_SHRINK:
            raise TableError(f"descriptor {fd} is not sealed: its owner could shrink it while it is mapped")
        if size != layout.size:
            raise TableError(f"descriptor {fd} has {size} bytes, but the layout needs {layout.size}")
        try:
            table = cls(fd, layout, writable=writable)
        except OSError as error:
            raise TableError(f"descriptor {fd} cannot be mapped: {error}") from error
        found = tuple(table.cells[cell] for cell in (HEADER_MAGIC, HEADER_SERVICES, HEADER_BACKENDS))
        if found != (MAGIC, layout.services, layout.backends):
            table.unmap()
            raise TableError(f"descriptor {fd} holds a column of another layout: {found}")
        return table

    def readonly_fd(self) -> int:
        """Return a new descriptor of the same memory that may only be read; the caller closes it."""
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)

    def unmap(self) -> None:
        """Unmap the memory but keep `fd`; `cells` is unusable afterwards. Raises BufferError while a slice exists."""
        self.cells.release()
        self._view.release()
        self._map.close()

    def close(self) -> None:
        """Unmap the memory and close `fd`; harmless if called twice."""
        if self.fd < 0:
            return
        self.unmap()
        os.close(self.fd)
        self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
