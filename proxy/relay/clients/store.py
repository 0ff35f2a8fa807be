"""The shared memory with the persistence templates of all workers."""

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

from proxy.relay.clients.templates import MAGIC, cells_for
from proxy.relay.native.templates import Templates
from proxy.stats import sealed
from proxy.stats.table import TableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.relay.target import Target

    Pick = Callable[[int, tuple[Target, ...]], Target | None]

BUCKETS: Final = 16_384
"""131,072 templates for all services of a host: 2 MiB, of which the kernel allocates only used pages."""


TRIES: Final = 20  # tries to lock; after each the holder may run


_FLOCK: Final = struct.Struct("@hhqqi4x")  # type, whence, start, length, pid (fcntl.h)


class Store:
    """The memory of all templates, mapped into this process. Each process has its own open file description `fd`.

    A host's workers make their clients' keys with `secret`.
    """

    def __init__(self, fd: int, secret: bytes = b"") -> None:
        """Map and own a descriptor from `create` or `again`; if it raises TableError, the caller still owns it."""
        size = os.fstat(fd).st_size
        try:
            self._map = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except (OSError, ValueError) as error:
            raise TableError(f"descriptor {fd} cannot be mapped as a table of templates: {error}") from error
        self._view = memoryview(self._map)
        self.cells: memoryview[int] = self._view.cast("q")
        if size < 8 * cells_for(1) or self.cells[0] != MAGIC or 8 * cells_for(self.cells[1]) != size:
            self._unmap()
            raise TableError(f"descriptor {fd} is not a table of templates")
        self.fd = fd
        self.secret = secret
        self.templates = Templates(self.cells)

    @classmethod
    def create(cls, buckets: int = BUCKETS) -> Self:
        """Make an empty, sealed table; raise OSError if memory or descriptors run out."""
        fd = sealed.zeroed("templates", 8 * cells_for(buckets))
        try:
            os.pwrite(fd, struct.pack("@qq", MAGIC, buckets), 0)
            return cls(fd)
        except BaseException:
            os.close(fd)
            raise

    def again(self) -> int:
        """Return a new open file description of the same memory for another process: locks work between descriptions."""
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR | os.O_CLOEXEC)

    @contextmanager
    def locked(self, bucket: int) -> Iterator[bool]:
        """Hold the lock on a bucket if it is free within `TRIES` tries; yield True if it is held."""
        lock = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, bucket, 1, 0)
        held = False
        for _ in range(TRIES):
            try:
                fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, lock)
            except OSError:
                os.sched_yield()
            else:
                held = True
                break
        try:
            yield held
        finally:
            if held:
                fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, bucket, 1, 0))

    def close(self) -> None:
        """Unmap the memory and close `fd`; harmless if called twice."""
        if self.fd >= 0:
            self.templates.close()
            self._unmap()
            os.close(self.fd)
            self.fd = -1

    def _unmap(self) -> None:
        self.cells.release()
        self._view.release()
        self._map.close()
