"""What operators want of backends: `drain`, `maint` and `ready`, over what the file says.

- A drained backend gets nothing new and keeps what it has until its deadline, which cuts what is left.  One in maintenance
  is cut at once and not probed; when it is ready again, its first pass brings it back.
- One that is to be removed is drained, whatever else is wanted of it, until nothing is open there any more.
- An act concerns this host alone and ends with the daemon, unless it was to be saved.
- One that is to be saved is saved first.  Where that fails nothing is changed.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from health.units import format_duration
from proxy.backends.effective import Running, written
from proxy.backends.errors import FailedError
from proxy.balance.backend import Admin
from proxy.config.model import BackendKey
from proxy.records.document import Document, StateError
from proxy.records.timeline import Tell
from proxy.status.rows import Override

SAVED: Final = "overrides.json"
"""In the state directory: the acts that a restart must not forget."""
HEARD: Final = 1.0  # s until every worker has heard of an act: one that has not is taken for dead
ADMINS: Final[Mapping[str, Admin]] = {"drain": "drain", "maint": "maint", "ready": "ready"}


@dataclass(frozen=True, slots=True)
class Act:
    """What somebody asked of a backend, `at` in Unix seconds, `began` in monotonic ones.

    What a drained one has left is cut at `until`, which is `latest` where nobody wanted less (monotonic seconds); then it
    is `over`.
    """

    admin: Admin
    by: str
    reason: str | None
    at: float
    saved: bool = False
    began: float = 0.0
    until: float = math.inf
    latest: float = math.inf
    over: bool = False


class Admins:
    """The admin state of every backend of a daemon.

    `document`, which has been loaded, has the acts that a restart must not forget; `tell` records; `changed(keys)` hears
    of whom the workers, or health, must hear; `active(key)` is how much a backend has open.  Raises StateError for saved
    acts that are none.
    """

    def __init__(
        self,
        running: Running,
        document: Document,
        tell: Tell,
        changed: Callable[[Collection[BackendKey]], None],
        active: Callable[[BackendKey], int],
    ) -> None:
        self._tell = tell
        self._changed = changed
        self._active = active
        self._loop = asyncio.get_running_loop()
        self._document = document
        self._running = running
        self._acts: dict[BackendKey, Act] = {}  # also of backends that were removed: they may be added again
        self._leaving: dict[BackendKey, Act] = {}
        self._told: dict[BackendKey, float] = {}  # when the workers had been sent word of those that leave
        self._forgetting: set[asyncio.Task[None]] = set()
        self.strange: list[str] = []
        """Saved acts on backends that the file does not have any more."""
        self._restore()

    def state(self, key: BackendKey) -> Admin:
        """Return what is wanted of a backend."""
        act = self._acts.get(key)
        admin: Admin = self._running.backends[key].admin if act is None else act.admin
        return "drain" if admin == "ready" and key in self._leaving else admin

    def acted(self, key: BackendKey) -> Admin:
        """Return what workers act on: a drain whose deadline has passed is a maintenance to them."""
        acts = (self._acts.get(key), self._leaving.get(key))
        return "maint" if any(act is not None and act.over for act in acts) else self.state(key)

    def leaves(self, key: BackendKey) -> bool:
        """Whether a backend is to be removed."""
        return key in self._leaving

    def has_left(self, key: BackendKey, now: float) -> bool:
        """Whether a backend that is to be removed has nothing open, and each worker has heard that it gets nothing more.

        To be asked regularly: what workers must hear has been sent by the time of the next look.
        """
        if key not in self._leaving:
            return False
        return now >= self._told.setdefault(key, now) + HEARD and not self._active(key)

    @property
    def overrides(self) -> dict[BackendKey, Override]:
        """What differs from the file, as the status shows it."""
        acts = {**self._acts, **self._leaving}
        return {
            key: Override(self.state(key), act.by, act.reason)
            for key, act in acts.items()
            if key in self._running.backends
        }

    def look(self, now: float) -> None:
        """Cut what drained backends have left whose time is over."""
        for acts in (self._acts, self._leaving):
            for key, act in list(acts.items()):
                if act.until <= now and not act.over and key in self._running.backends:
                    acts[key] = replace(act, over=True)
                    self._cut(key, act)

    # -- backends that are to be removed

    def retire(self, keys: Collection[BackendKey], by: str, *, force: bool) -> None:
        """Drain backends until they can be removed; with `force` what they have is cut at once."""
        for key in keys:
            act = self._until(key, Act("drain", by, "to be removed", time.time(), began=self._loop.time()))
            self._leaving[key] = replace(act, over=True) if force else act
        self._changed(keys)

    def stays(self, keys: Collection[BackendKey]) -> None:
        """Backends are not to be removed after all."""
        for key in keys:
            self._leaving.pop(key, None)
            self._told.pop(key, None)
        self._changed(keys)

    def gone(self, key: BackendKey, *, forever: bool) -> None:
        """A backend has been removed; what was wanted of it is forgotten if it is not in the file either."""
        self._leaving.pop(key, None)
        self._told.pop(key, None)
        act = self._acts.pop(key, None) if forever else None
        if act is not None and act.saved:
            task = self._loop.create_task(self._forget())
            self._forgetting.add(task)
            task.add_done_callback(self._forgetting.discard)

    async def _forget(self) -> None:
        """Save what is left of the acts; where that fails a restart leaves out what it has no backend for."""
        with contextlib.suppress(FailedError):
            await self._commit(lambda: self._acts, lambda: None, "still has an act on a backend that is gone")

    # -- what operators ask for

    async def act(
        self,
        keys: Collection[BackendKey],
        act: Act,
        timeout: float | None,  # noqa: ASYNC109 - of a drain, for which nobody waits here
        check: Callable[[Collection[BackendKey]], None] = lambda _: None,
    ) -> bool:
        """Take an act on these backends; False if all of it held already.

        `timeout` in seconds cuts what is left of a drain, earlier than drain-timeout.  `check(keys)` may refuse it for
        those whose state it changes.  Raises FailedError, with nothing changed, for one that could not be saved and should
        have been.
        """
        wanted, act = act.admin, replace(act, began=self._loop.time())
        limited = wanted == "drain" and timeout is not None

        def news() -> list[BackendKey]:
            listed = [key for key in keys if key in self._running.backends]
            return [key for key in listed if self.state(key) != wanted or (act.saved and self._is_unsaved(key, wanted))]

        def after() -> dict[BackendKey, Act]:
            check(keys := news())
            acts = {key: self._next(key, act) for key in keys}
            return {key: one for key, one in {**self._acts, **acts}.items() if one is not None}

        def put_into_force() -> None:
            changed = news()
            for key in changed:
                self._set(key, act)
            if wanted == "drain" and timeout is not None:
                self._limit([key for key in keys if key in self._running.backends], act, timeout)
            if changed:
                self._changed(changed)

        is_new = bool(news())
        if _rows(after()) == _rows(self._acts):
            put_into_force()
        else:
            await self._commit(after, put_into_force)
        return is_new or limited

    def waits(self, key: BackendKey, wanted: Admin) -> bool:
        """Whether a backend of which this is wanted still has something open."""
        return key in self._running.backends and self.state(key) == wanted and self._active(key) > 0

    def rows(self) -> list[dict[str, Any]]:
        """Return what differs from the file, as `overrides` shows it."""
        return [{**self.row(key), "act": act.admin} for key, act in self._acts.items() if key in self._running.backends]

    def row(self, key: BackendKey) -> dict[str, Any]:
        """Return what is wanted of a backend, as commands show it."""
        act = self._acts.get(key)
        return {
            "service": key[0],
            "backend": key[1],
            "admin": self.state(key),
            "by": act.by if act else None,
            "reason": act.reason if act else None,
            "at": act.at if act else None,
            "saved": bool(act and act.saved),
            "active": self._active(key),
        }

    async def clear(self, by: str, besides: Callable[[], None] = lambda: None) -> None:
        """Have again what the file says, and do what is to be done `besides`; FailedError, and neither is done."""

        def put_into_force() -> None:
            gone, self._acts = self._acts, {}
            known = [key for key in gone if key in self._running.backends]
            for key in known:
                admin = self._running.backends[key].admin
                self._tell("admin", written(key), f"{admin}, as the file says: overrides cleared by {by}")
            if known:
                self._changed(known)
            besides()

        if self._document.content:
            await self._commit(dict, put_into_force)
        else:
            put_into_force()

    # -- inside

    def _next(self, key: BackendKey, act: Act) -> Act | None:
        """Return what is to be remembered of a backend after an act; None for nothing."""
        before = self._acts.get(key)
        if before is not None and before.admin == act.admin:  # it is to be saved as well: its deadline stands
            return replace(before, saved=True)
        return None if self._is_plain(key, act.admin) else self._until(key, act)

    def _set(self, key: BackendKey, act: Act) -> None:
        after, before = self._next(key, act), self._acts.pop(key, None)
        if after is not None:
            self._acts[key] = after
        if before is not None and before.admin == act.admin:
            text = f"{act.admin} is to hold over a restart, by {act.by}"
        else:
            text = f"{act.admin}, by {act.by}" + (f": {act.reason}" if act.reason else "")
        self._tell("admin", written(key), text, admin=act.admin, by=act.by)

    def _until(self, key: BackendKey, act: Act) -> Act:
        """Return the act with the deadline that the service gives a drain."""
        if act.admin != "drain":
            return act
        latest = act.began + self._running.services[key[0]].drain_timeout
        return replace(act, until=latest, latest=latest)

    def _limit(self, keys: Collection[BackendKey], act: Act, timeout: float) -> None:
        """Cut what these backends have left after `timeout` seconds; the file may have drained them before this act."""
        for key in keys:
            acts = self._leaving if key in self._leaving and key not in self._acts else self._acts
            drained = acts.get(key) or self._until(key, act)
            until = min(act.began + timeout, drained.latest)
            acts[key] = replace(drained, until=until)
            self._tell("admin", written(key), f"what is left is cut after {format_duration(timeout)}, by {act.by}")

    def _cut(self, key: BackendKey, act: Act) -> None:
        left = self._active(key)
        lasted = format_duration(round(act.until - act.began, 3))
        self._tell("admin", written(key), f"drained for {lasted}, {left} left: cut", left=left)
        self._changed([key])

    def _is_plain(self, key: BackendKey, wanted: Admin) -> bool:
        """Whether nothing has to be remembered for it: ready, as the file says."""
        return wanted == self._running.backends[key].admin == "ready"

    def _is_unsaved(self, key: BackendKey, wanted: Admin) -> bool:
        act = self._acts.get(key)
        return not self._is_plain(key, wanted) and (act is None or not act.saved)

    # -- over a restart

    async def _commit(
        self,
        acts: Callable[[], Mapping[BackendKey, Act]],
        put_into_force: Callable[[], None],
        otherwise: str = "nothing is changed",
    ) -> None:
        """Save acts, then put them into force; FailedError where they cannot be saved, and nothing is changed."""
        try:
            await self._document.commit(lambda: _rows(acts()), put_into_force)
        except StateError as error:
            self._tell("admin", SAVED, f"{otherwise}, as it cannot be saved: {error}", level="error")
            raise FailedError(f"{otherwise}, as it cannot be saved: {error}") from error

    def _restore(self) -> None:
        saved = self._document.content
        for row in saved if isinstance(saved, list) else []:
            try:
                key = (str(row["service"]), str(row["backend"]))
                act = Act(ADMINS[row["admin"]], str(row["by"]), row["reason"], float(row["at"]), saved=True)
            except (KeyError, TypeError, ValueError) as error:
                raise StateError(f"{self._document.path}: no act of ours: {error!r}") from error
            if key in self._running.backends:
                self._acts[key] = act
            else:
                self.strange.append(written(key))


def _rows(acts: Mapping[BackendKey, Act]) -> list[dict[str, Any]]:
    """Return of acts what a restart must not forget."""
    return [
        {"service": key[0], "backend": key[1], "admin": act.admin, "by": act.by, "reason": act.reason, "at": act.at}
        for key, act in acts.items()
        if act.saved
    ]
