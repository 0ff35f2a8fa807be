"""The state directory of one daemon: locked against a second one, with a thread that reads and writes what is in it."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from proxy.records.disk_thread import DiskThread, StuckError
from proxy.records.document import PATIENCE, Document, StateError
from proxy.records.private_files import HeldError, lock, open_directory, sign

LOCK: Final = "lock"
FAREWELL: Final = 1.0
"""Seconds that what waits to be written may take at the end."""


class StateDirectory:
    """Made by `take`; `fault` says in words why nothing can be kept there, "" if it can."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.disk = DiskThread("state directory")
        self.fault = ""
        self._documents: dict[str, Document] = {}
        self._lock = -1
        self._stuck = False

    @classmethod
    async def take(cls, path: Path, node: str) -> Self:
        """Become the one owner of a directory.  Raises StateError if it has another, which the error names, or is too slow.

        If the directory cannot be created or written, the daemon keeps its state in memory.
        """
        itself = cls(path)
        try:
            itself._lock = await itself.disk.run(lambda: _lock(path, node), PATIENCE)
        except HeldError as error:
            whose = str(error) or "which left no name"
            raise StateError(
                f"{path} belongs to another daemon, {whose}: give each daemon its own directory"
            ) from error
        except StuckError as error:
            raise StateError(f"{path}: {error}") from error
        except OSError as error:
            itself.fault = f"{path}: {error.strerror or error}"
        return itself

    @classmethod
    def adopt(cls, path: Path, lock: int) -> Self:
        """Become the owner of a directory in a predecessor's place; owns `lock`, the descriptor of its lock."""
        itself = cls(path)
        itself._lock = lock
        return itself

    @property
    def lock(self) -> int:
        """The descriptor of the lock, -1 without one."""
        return self._lock

    def sign(self, node: str) -> None:
        """Write into a predecessor's lock whose it is now, for the next daemon that is refused."""
        if self._lock >= 0:
            with contextlib.suppress(StuckError):
                self.disk.submit(lambda: sign(self._lock, _owner(node)))

    async def written(self) -> None:
        """Wait until what was to be written is, within a bound."""
        with contextlib.suppress(StuckError):
            await self.disk.run(lambda: None, FAREWELL)

    def give_away(self) -> None:
        """Let a successor, which has the lock as well, be the only owner."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def document(self, name: str) -> Document:
        """Return one of its documents, each time the same one."""
        if name not in self._documents:
            self._documents[name] = Document(self.disk, self.path, name)
        return self._documents[name]

    def look(self, tell: Callable[[str, bool], None]) -> None:
        """Find out whether its file system answers; `tell(text, is it a fault)` records a change."""
        stuck = self.disk.busy_for() >= PATIENCE
        if stuck != self._stuck:
            self._stuck = stuck
            if stuck:
                tell(
                    f"{self.path}: the file system does not answer: nothing can be saved, events are kept in memory",
                    True,
                )
            else:
                tell(f"{self.path}: the file system answers again", False)

    async def close(self) -> None:
        """Let what waits be written, within a bound, and let others have the directory."""
        await self.disk.close(FAREWELL)
        # Where the thread is stuck it may still write: the lock goes with the process then.
        if self._lock >= 0 and not self.disk.busy_for():
            os.close(self._lock)
            self._lock = -1


def _owner(node: str) -> str:
    return f"pid {os.getpid()} of node {node}"


def _lock(path: Path, node: str) -> int:
    directory = open_directory(path)
    try:
        return lock(directory, LOCK, _owner(node))
    finally:
        with contextlib.suppress(OSError):
            os.close(directory)
