"""Small JSON documents in the state directory that a restart must not forget."""

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from proxy.records.disk_thread import DiskThread, StuckError
from proxy.records.private_files import open_directory, open_file

DOCUMENT_MAX: Final = 4 << 20
"""Octets of a document."""
PATIENCE: Final = 3.0
"""Seconds that the file system may take to read or write one."""


class StateError(Exception):
    """A document cannot be read or written; says which, and why."""


class Document:
    """The JSON document NAME of a directory, read and written by that directory's thread.

    What is saved and what is in force are the same, whatever the disk does: see `commit`.
    """

    def __init__(self, disk: DiskThread, directory: Path, name: str) -> None:
        self._disk = disk
        self._directory = directory
        self._name = name
        self.content: Any = None
        """What is saved, as far as that is known: None before `load`, and where there is none."""
        self._turn = asyncio.Lock()
        self._commits: set[asyncio.Task[None]] = set()

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._directory / self._name

    async def load(self) -> Any:
        """Return the document, None if there is none; StateError if it cannot be read."""
        try:
            self.content = await self._disk.run(lambda: load(self._directory, self._name), PATIENCE)
        except StuckError as error:
            raise StateError(f"{self.path}: {error}") from error
        return self.content

    async def commit(self, content: Callable[[], Any], put_into_force: Callable[[], None]) -> None:
        """Replace the document by `content()`, and then put that into force; StateError, and neither is done.

        Commits run one after the other: `content()` is called when the commit before it is in force.  A commit goes on even
        if its caller is cancelled.
        """

        async def commit() -> None:
            async with self._turn:
                await self._save(content())
                put_into_force()

        task = asyncio.get_running_loop().create_task(commit(), name=f"commit {self._name}")
        self._commits.add(task)
        task.add_done_callback(self._committed)
        await asyncio.shield(task)

    def _committed(self, task: asyncio.Task[None]) -> None:
        self._commits.discard(task)
        if not task.cancelled():
            task.exception()  # the caller that waited has it: asyncio need not report it

    async def _save(self, content: Any) -> None:
        """Save it; StateError if it is not saved, and then it will not be later either."""
        before, outcome = self.content, _Outcome()
        try:
            await self._disk.run(lambda: self._replace(content, before, outcome), PATIENCE)
        except StuckError as error:
            if outcome.decide("given up"):
                raise StateError(f"{self.path}: {error}") from error
        self.content = content

    def _replace(self, content: Any, before: Any, outcome: "_Outcome") -> None:
        try:
            save(self._directory, self._name, content)
        except StateError:
            with contextlib.suppress(StateError):  # it may be there already, and not be sure to stay
                if load(self._directory, self._name) != before:
                    save(self._directory, self._name, before)
            raise
        if not outcome.decide("saved"):
            save(self._directory, self._name, before)


class _Outcome:
    """What became of a write: the thread that has done it and the loop that has waited for it agree on one thing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is = ""

    def decide(self, outcome: str) -> bool:
        """Settle it, unless the other one has; whether this is how it is."""
        with self._lock:
            self._is = self._is or outcome
            return self._is == outcome


def load(directory: Path, name: str) -> Any:
    """Return the JSON document NAME, None if there is none; StateError for one that cannot be read.  Makes nothing."""
    try:
        held = open_directory(directory, make=False)
        try:
            with os.fdopen(open_file(held, name, os.O_RDONLY), "rb") as file:
                return json.loads(file.read(DOCUMENT_MAX))
        finally:
            os.close(held)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise StateError(f"{directory / name}: {getattr(error, 'strerror', None) or error}") from error


def save(directory: Path, name: str, content: Any) -> None:
    """Replace the JSON document NAME as a whole: written beside it, synced, renamed; StateError, and the old one stays.

    One that is empty is no file: to forget everything must be possible on a full disk, too.
    """
    text = json.dumps(content, ensure_ascii=False).encode(errors="replace")
    if len(text) > DOCUMENT_MAX:
        raise StateError(f"{directory / name}: {len(text)} octets are more than the {DOCUMENT_MAX} that may be kept")
    try:
        held = open_directory(directory)
        try:
            if content:
                _write(held, name, text)
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=held)
            os.fsync(held)
        finally:
            os.close(held)
    except OSError as error:
        raise StateError(f"{directory / name}: {error.strerror or error}") from error


def _write(directory: int, name: str, text: bytes) -> None:
    beside = f"{name}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside, dir_fd=directory)  # of a life that was cut off, or planted
    try:
        with os.fdopen(open_file(directory, beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.rename(beside, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(beside, dir_fd=directory)
        raise
