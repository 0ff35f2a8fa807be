"""Keeps the acts that operators asked to save: one document in the state directory for all of them.

- An act is saved before it is in force.  If it cannot be saved, it is refused and changes nothing.
- The document is always written as a whole from what is in force and the act that comes, so that of two acts at the same
  time both are kept.
- What is done in force without an operator, as a reload ends an act, is written afterwards, in the background.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from proxy.backends.errors import FailedError, RefusedError
from proxy.records.document import Document, StateError
from proxy.records.timeline import Tell

SAVED: Final = "overrides.json"
"""The file of the saved acts, in the state directory."""
ACTS: Final = ("drain", "maint", "ready", "add", "remove", "weight")
VERSION: Final = 1
"""The version of the file's form.  The form without a version, a list of admin states alone, is read as well."""

Row = dict[str, Any]
"""One act: {"act", "service", "backend", "by", "at", ...}."""


class SavedActs:
    """The document and what it had at the start.

    `document` is already loaded.  `inherited` are the acts of a daemon whose place this one takes, saved or not: they
    replace the document's.  Raises StateError if an act is invalid.
    """

    def __init__(self, document: Document, tell: Tell, inherited: Sequence[Row] | None = None) -> None:
        self._document = document
        self._tell = tell
        self._parts: dict[str, Callable[[], list[Row]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.path = document.path
        self.rows: Sequence[Row] = _rows(document) if inherited is None else inherited
        """The acts at the start."""

    def add_part(self, name: str, rows: Callable[[], list[Row]]) -> None:
        """Have the acts of a part of the daemon saved: `rows()` returns those that are in force and to be saved."""
        self._parts[name] = rows

    async def commit(self, news: Callable[[], Mapping[str, list[Row]]], put_into_force: Callable[[], None]) -> None:
        """Save `news()`, the rows of each part that changes, and then put them into force.

        Raises FailedError, and changes nothing, if they cannot be saved; also what `news` and `put_into_force` raise.
        Nothing is written if nothing that is saved changes.
        """
        if self._content(news()) == self._content({}):
            put_into_force()
        else:
            await self._save(news, put_into_force, "nothing is changed")

    async def clear(self, put_into_force: Callable[[], None]) -> None:
        """Remove the document and call `put_into_force`; FailedError, and neither is done, if that cannot be saved."""
        if self._document.content:
            await self._save(lambda: {name: [] for name in self._parts}, put_into_force, "nothing is changed")
        else:
            put_into_force()

    def keep(self) -> None:
        """Write what is in force, in the background; an event tells if that fails.

        The next start then finds acts that have ended.  It ends them again if it can tell.
        """
        task = asyncio.get_running_loop().create_task(self._keep(), name="keep acts")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Wait until nothing is to be written in the background any more."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    # -- inside

    async def _keep(self) -> None:
        with contextlib.suppress(FailedError):  # the event is recorded
            await self._save(dict, lambda: None, "still has acts that have ended")

    async def _save(
        self, news: Callable[[], Mapping[str, list[Row]]], put_into_force: Callable[[], None], otherwise: str
    ) -> None:
        def put() -> None:
            try:
                put_into_force()
            except (FailedError, RefusedError):
                self.keep()  # it was possible when it was saved, and is not any more: what is saved is not in force
                raise

        try:
            await self._document.commit(lambda: self._content(news()), put)
        except StateError as error:
            self._tell("admin", SAVED, f"{otherwise}, as it cannot be saved: {error}", level="error")
            raise FailedError(f"{otherwise}, as it cannot be saved: {error}") from error

    def _content(self, news: Mapping[str, list[Row]]) -> Any:
        rows = [row for name, part in self._parts.items() for row in (news[name] if name in news else part())]
        return {"version": VERSION, "acts": rows} if rows else {}


def _rows(document: Document) -> Sequence[Row]:
    """Return the acts of a document, in whichever form; raises StateError."""
    content = document.content or []
    if isinstance(content, dict):
        if content.get("version") != VERSION:
            raise StateError(
                f"{document.path}: it has version {content.get('version')!r} and this steelyard reads version {VERSION}: "
                "start the one that wrote it, or move the file away"
            )
        content = content.get("acts")
    elif isinstance(content, list):
        content = [{**row, "act": row.get("admin")} if isinstance(row, dict) else row for row in content]
    if not isinstance(content, list):
        raise StateError(f"{document.path}: it has no list of acts")
    for row in content:
        if not isinstance(row, dict) or row.get("act") not in ACTS:
            raise StateError(f"{document.path}: invalid override: {row!r}")
    return content
