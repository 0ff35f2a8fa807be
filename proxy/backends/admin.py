"""What operators want of backends: `drain`, `maint` and `ready`, over what the file says.

- A drained backend gets nothing new and keeps what it has until its deadline, which cuts what is left.  One in maintenance
  is cut at once and not probed; when it is ready again, its first pass brings it back.
- One that is to be removed is drained, whatever else is wanted of it, until nothing is open there any more.
- An act concerns this host alone and ends with the daemon, unless it was to be saved.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from health.units import format_duration
from proxy.backends.effective import Running, written
from proxy.backends.errors import FailedError
from proxy.balance.backend import Admin
from proxy.config.model import BackendKey
from proxy.records import state_directory
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

    `tell` records; `changed(keys)` hears of whom the workers, or health, must hear; `active(key)` is how much a backend has
    open.  Raises statedir.StateError for saved acts that cannot be read: they must not be forgotten.
    """

    def __init__(
        self,
        running: Running,
        tell: Tell,
        changed: Callable[[Collection[BackendKey]], None],
        active: Callable[[BackendKey], int],
    ) -> None:
        self._tell = tell
        self._changed = changed
        self._active = active
        self._loop = asyncio.get_running_loop()
        self._directory = Path(running.config.node.state_dir)
        self._running = running
        self._acts: dict[BackendKey, Act] = {}  # also of backends that were removed: they may be added again
        self._leaving: dict[BackendKey, Act] = {}
        self._told: dict[BackendKey, float] = {}  # when the workers had been sent word of those that leave
        self._on_disk: set[BackendKey] = set()
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
        if forever and self._acts.pop(key, None) is not None:
            with contextlib.suppress(FailedError):  # it is told already, and nobody waits for an answer
                self._save()

    # -- what operators ask for

    def act(self, keys: Collection[BackendKey], act: Act, timeout: float | None) -> bool:
        """Take an act on these backends; False if all of it held already.

        `timeout` in seconds cuts what is left of a drain, earlier than drain-timeout.  Raises FailedError for one that
        could not be saved and should have been.
        """
        wanted, act = act.admin, replace(act, began=self._loop.time())
        news = [key for key in keys if self.state(key) != wanted or (act.saved and self._is_unsaved(key, wanted))]
        for key in news:
            self._set(key, act)
        limited = wanted == "drain" and timeout is not None
        if wanted == "drain" and timeout is not None:
            self._limit(keys, act, timeout)
        if news:
            self._changed(news)
            self._save()
        return bool(news) or limited

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

    def clear(self, by: str) -> None:
        """Have again what the file says."""
        gone, self._acts = self._acts, {}
        known = [key for key in gone if key in self._running.backends]
        for key in known:
            admin = self._running.backends[key].admin
            self._tell("admin", written(key), f"{admin}, as the file says: overrides cleared by {by}")
        if gone:
            self._save()
            self._changed(known)

    # -- inside

    def _set(self, key: BackendKey, act: Act) -> None:
        before = self._acts.get(key)
        if before is not None and before.admin == act.admin:  # it was to be saved as well: its deadline stands
            self._acts[key] = replace(before, saved=True)
            self._tell(
                "admin", written(key), f"{act.admin} is to hold over a restart, by {act.by}", admin=act.admin, by=act.by
            )
            return
        self._acts.pop(key, None)
        if not self._is_plain(key, act.admin):
            self._acts[key] = self._until(key, act)
        why = f": {act.reason}" if act.reason else ""
        self._tell("admin", written(key), f"{act.admin}, by {act.by}{why}", admin=act.admin, by=act.by)

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

    def _save(self) -> None:
        document = [
            {"service": key[0], "backend": key[1], "admin": act.admin, "by": act.by, "reason": act.reason, "at": act.at}
            for key, act in self._acts.items()
            if act.saved
        ]
        if not document and not self._on_disk:
            return
        try:
            state_directory.save(self._directory, SAVED, document)
            self._on_disk = {key for key, act in self._acts.items() if act.saved}
        except state_directory.StateError as error:
            self._tell("admin", SAVED, f"a restart will not know of it: {error}", level="error")
            for key, act in self._acts.items():
                self._acts[key] = replace(act, saved=act.saved and key in self._on_disk)
            raise FailedError(f"it is so now, but a restart will not know of it: {error}") from error

    def _restore(self) -> None:
        document = state_directory.load(self._directory, SAVED)
        for row in document if isinstance(document, list) else []:
            try:
                key = (str(row["service"]), str(row["backend"]))
                act = Act(ADMINS[row["admin"]], str(row["by"]), row["reason"], float(row["at"]), saved=True)
            except (KeyError, TypeError, ValueError) as error:
                raise state_directory.StateError(f"{self._directory / SAVED}: no act of ours: {error!r}") from error
            self._on_disk.add(key)
            if key in self._running.backends:
                self._acts[key] = act
            else:
                self.strange.append(written(key))
