"""The admin states that operators give to backends at run time: `drain`, `maint` and `ready`.

- A drained backend gets no new clients and keeps its connections until its deadline, which cuts the remaining ones.
  The daemon cuts a backend in maintenance at once and does not probe it; once it is ready again, its first pass brings
  it back.
- A backend that is to be removed is drained, whatever its admin state, until nothing is open there any more.
- An act concerns this host alone and ends with the daemon, unless the operator asks to save it.
- The daemon saves such an act before it changes anything.  If that fails it changes nothing.
- An act ends when the file changes the backend's `admin`: see `overlay`.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Final

from health.units import format_duration
from proxy.backends.admin_acts import ADMINS, LEAVE, Act, act_of, row_of, to_save
from proxy.backends.effective import Running, written
from proxy.backends.overlay import Changed
from proxy.backends.saved import Row, SavedActs
from proxy.balance.backend import Admin
from proxy.config.model import BackendKey
from proxy.moments import rfc3339
from proxy.records.document import StateError
from proxy.records.timeline import Tell
from proxy.status.rows import Override

PART: Final = "admin"
"""The acts of this module, of those that are saved."""
HEARD: Final = 1.0  # s until every live worker has an act: a worker without it counts as dead


class Admins:
    """The admin state of every backend of a daemon.

    `saved` has the acts from before the start; `tell` records events; `changed(keys)` is called with the backends whose
    state the workers and health must learn; `active(key)` returns how much a backend has open.  Raises StateError if a
    saved act is invalid.
    """

    def __init__(
        self,
        running: Running,
        saved: SavedActs,
        tell: Tell,
        changed: Callable[[Collection[BackendKey]], None],
        active: Callable[[BackendKey], int],
    ) -> None:
        self._tell = tell
        self._changed = changed
        self._active = active
        self._loop = asyncio.get_running_loop()
        self._saved = saved
        self._running = running
        self._acts: dict[BackendKey, Act] = {}  # also of removed backends, which may be added again
        self._leaving: dict[BackendKey, Act] = {}
        self._filed: dict[BackendKey, Act] = {}  # the drains of a file that was reloaded, with their deadlines
        self._told: dict[BackendKey, float] = {}  # when the workers had got the message about a backend that leaves
        self._restore()
        saved.add_part(PART, lambda: to_save(self._acts))

    def state(self, key: BackendKey) -> Admin:
        """Return the admin state of a backend."""
        act = self._acts.get(key)
        admin: Admin = self._running.backends[key].admin if act is None else act.admin
        return "drain" if admin == "ready" and key in self._leaving else admin

    def acted(self, key: BackendKey) -> Admin:
        """Return the admin state for workers: "maint" for a drain whose deadline has passed."""
        acts = (self._acts.get(key), self._leaving.get(key), self._filed.get(key))
        return "maint" if any(act is not None and act.over for act in acts) else self.state(key)

    def leaves(self, key: BackendKey) -> bool:
        """Whether a backend is to be removed."""
        return key in self._leaving

    @property
    def leaving(self) -> Collection[BackendKey]:
        """The backends that are to be removed."""
        return self._leaving.keys()

    def has_left(self, key: BackendKey, now: float) -> bool:
        """Returns True if a backend to be removed has nothing open and every worker knows that it gets no new clients.

        Call it regularly: by the second call the message to the workers has been sent.
        """
        if key not in self._leaving:
            return False
        return now >= self._told.setdefault(key, now) + HEARD and not self._active(key)

    @property
    def overrides(self) -> dict[BackendKey, Override]:
        """The admin states that differ from the file, for the status."""
        acts = {**self._acts, **self._leaving}
        return {
            key: Override(self.state(key), act.by, act.reason)
            for key, act in acts.items()
            if key in self._running.backends
        }

    def look(self, now: float) -> None:
        """Cut the remaining connections of drained backends whose deadline has passed."""
        for acts in (self._acts, self._leaving, self._filed):
            for key, act in list(acts.items()):
                if act.until <= now and not act.over and key in self._running.backends:
                    acts[key] = replace(act, over=True)
                    self._cut(key, act)

    # -- backends that are to be removed

    def retire(self, keys: Collection[BackendKey], by: str, *, force: bool) -> None:
        """Drain backends until they can be removed; `force` cuts their connections at once."""
        self._retire(keys, by, force=force)
        self._changed(keys)

    def stays(self, keys: Collection[BackendKey]) -> None:
        """Keep backends that were to be removed."""
        self._stay(keys)
        self._changed(keys)

    def gone(self, key: BackendKey, *, forever: bool) -> None:
        """Note that a backend has been removed; `forever`, as it is not in the file either, forgets the act on it."""
        self._stay([key])
        self._filed.pop(key, None)
        act = self._acts.pop(key, None) if forever else None
        if act is not None and act.saved:
            self._saved.keep()

    def _retire(self, keys: Collection[BackendKey], by: str, *, force: bool) -> None:
        for key in keys:
            act = self._until(key, Act("drain", by, "to be removed", time.time(), began=self._loop.time()))
            if (before := self._acts.get(key)) is not None:  # what is promised for an earlier time is kept
                is_cut = before.over or before.admin == "maint"
                act = replace(act, until=min(act.until, before.until), over=is_cut)
            self._leaving[key] = replace(act, over=True) if force else act

    def _stay(self, keys: Collection[BackendKey]) -> None:
        for key in keys:
            self._leaving.pop(key, None)
            self._told.pop(key, None)

    # -- another file

    @property
    def values(self) -> Mapping[BackendKey, Changed[Admin]]:
        """The admin states that operators have set, and the file's at that time."""
        return {key: Changed(act.admin, act.filed) for key, act in self._acts.items()}

    def rebase(
        self,
        before: Mapping[BackendKey, Admin],
        ended: Collection[BackendKey] = (),
        *,
        retired: Collection[BackendKey] = (),
        returned: Collection[BackendKey] = (),
    ) -> bool:
        """Follow another file, which is in force already; returns True if the end of a saved act is to be saved.

        `before` are the admin states of the backends until then.  The acts on those in `ended` have ended.  Those in
        `retired` drain until they can be removed, those in `returned` stay.
        """
        listed = self._running.backends
        self._retire(retired, "reload", force=False)
        self._stay(returned)
        self._stay([key for key in self._leaving if key not in listed])  # with their services
        acts = {key: self._acts.pop(key) for key in ended}
        self._drain_as_filed(before, acts)
        changed = {key for key, state in before.items() if key in listed and self.state(key) != state}
        changed |= listed.keys() & {*ended, *retired, *returned}
        if changed:
            self._changed(sorted(changed))
        return any(act.saved for act in acts.values())

    def _drain_as_filed(self, before: Mapping[BackendKey, Admin], ended: Mapping[BackendKey, Act]) -> None:
        """Give the backends that the file drains from now on a deadline; that of an act that ends is kept."""
        drained = {key for key, one in self._running.backends.items() if one.admin == "drain" and key not in self._acts}
        self._filed = {key: act for key, act in self._filed.items() if key in drained}
        for key in drained & before.keys() - self._leaving.keys():
            if before[key] != "drain":
                act = Act("drain", "reload", None, time.time(), began=self._loop.time())
                self._filed[key] = self._until(key, act)
            elif key in ended:
                self._filed[key] = ended[key]

    # -- what operators ask for

    async def act(
        self,
        keys: Collection[BackendKey],
        act: Act,
        timeout: float | None,  # noqa: ASYNC109 - of a drain, for which nobody waits here
        check: Callable[[Collection[BackendKey]], None] = lambda _: None,
    ) -> bool:
        """Apply an act to these backends; returns False if it changes nothing.

        A drain cuts the remaining connections after `timeout` seconds, if that is earlier than drain-timeout.
        `check(keys)` may raise an error to refuse the act on the backends whose state it changes.  Raises FailedError,
        and changes nothing, if the act cannot be saved as it should be.
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
        await self._saved.commit(lambda: {PART: to_save(after())}, put_into_force)
        return is_new or limited

    def waits(self, key: BackendKey, wanted: Admin) -> bool:
        """Returns True if a backend in this admin state still has something open."""
        return key in self._running.backends and self.state(key) == wanted and self._active(key) > 0

    def rows(self) -> list[dict[str, Any]]:
        """Return the acts in force, as `overrides` shows them."""
        return [{**self.row(key), "act": act.admin} for key, act in self._acts.items() if key in self._running.backends]

    def row(self, key: BackendKey) -> dict[str, Any]:
        """Return a backend's admin state and the act behind it, as commands show them."""
        act = self._acts.get(key)
        return {
            "service": key[0],
            "backend": key[1],
            "admin": self.state(key),
            "by": act.by if act else None,
            "reason": act.reason if act else None,
            "at": rfc3339(act.at) if act else None,
            "saved": bool(act and act.saved),
            "active": self._active(key),
        }

    def clear(self, by: str) -> None:
        """End all acts, whose end is saved already."""
        gone, self._acts = self._acts, {}
        known = [key for key in gone if key in self._running.backends]
        for key in known:
            admin = self._running.backends[key].admin
            self._tell("admin", written(key), f"{admin}, as the file says: overrides cleared by {by}")
        if known:
            self._changed(known)

    # -- inside

    def _next(self, key: BackendKey, act: Act) -> Act | None:
        """Return the act to keep for a backend after `act`; None if its state is the file's."""
        before = self._acts.get(key)
        if before is not None and before.admin == act.admin:  # the same act, to be saved now: its deadline stays
            return replace(before, saved=True)
        filed = self._running.backends[key].admin
        return None if self._is_plain(key, act.admin) else replace(self._until(key, act), filed=filed)

    def _set(self, key: BackendKey, act: Act) -> None:
        after, before = self._next(key, act), self._acts.pop(key, None)
        self._filed.pop(key, None)
        if after is not None:
            self._acts[key] = after
        if before is not None and before.admin == act.admin:
            text = f"{act.admin} is saved and survives a restart, by {act.by}"
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
        """Bring forward the deadline of drains, also of the file's own, to `timeout` seconds after the act."""
        for key in keys:
            acts = self._leaving if key in self._leaving and key not in self._acts else self._acts
            filed = self._running.backends[key].admin
            drained = acts.get(key) or replace(self._until(key, act), filed=filed)
            until = min(act.began + timeout, drained.latest)
            acts[key] = replace(drained, until=until)
            self._tell(
                "admin",
                written(key),
                f"the remaining connections are cut after {format_duration(timeout)}, by {act.by}",
            )

    def _cut(self, key: BackendKey, act: Act) -> None:
        left = self._active(key)
        lasted = format_duration(round(act.until - act.began, 3))
        self._tell("admin", written(key), f"drained for {lasted}, {left} left: cut", left=left)
        self._changed([key])

    def _is_plain(self, key: BackendKey, wanted: Admin) -> bool:
        """Returns True if no act has to be kept: the backend is ready, as in the file."""
        return wanted == self._running.backends[key].admin == "ready"

    def _is_unsaved(self, key: BackendKey, wanted: Admin) -> bool:
        act = self._acts.get(key)
        return not self._is_plain(key, wanted) and (act is None or not act.saved)

    # -- over a restart

    def acts_to_hand_over(self) -> list[Row]:
        """Return all acts for a successor, saved or not."""
        return [row_of(key, act.admin, act) for key, act in self._acts.items()]

    def leaving_to_hand_over(self) -> dict[BackendKey, Row]:
        """Return the acts on the backends that are leaving, for a successor."""
        return {key: row_of(key, LEAVE, act) for key, act in self._leaving.items() if key in self._running.backends}

    def take_over(self, leaving: Mapping[BackendKey, Row]) -> None:
        """Go on with backends that leave, at the start."""
        self._leaving |= {key: act_of("drain", row) for key, row in leaving.items()}

    def restored(self, acts: Collection[BackendKey], leaving: Collection[BackendKey]) -> None:
        """Keep only these of the acts from before the start, and of the backends that leave."""
        self._acts = {key: act for key, act in self._acts.items() if key in acts}
        self._leaving = {key: act for key, act in self._leaving.items() if key in leaving}

    def _restore(self) -> None:
        for row in self._saved.rows:
            if row.get("act") not in ADMINS:
                continue
            try:
                key = (str(row["service"]), str(row["backend"]))
                act = act_of(ADMINS[row["act"]], row)
                if "filed" not in row and key in self._running.backends:  # of the form without a version
                    act = replace(act, filed=self._running.backends[key].admin)
            except (KeyError, TypeError, ValueError) as error:
                raise StateError(f"{self._saved.path}: invalid override: {error!r}") from error
            self._acts[key] = act
