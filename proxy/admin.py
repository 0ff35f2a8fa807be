"""What operators want of backends: `drain`, `maint` and `ready`, over what the file says.

- A drained backend gets nothing new and keeps what it has until its deadline, which cuts what is left.  One in maintenance
  is cut at once and not probed; when it is ready again, its first pass brings it back.
- An act concerns this host alone and ends with the daemon, unless it was to be saved.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from health.units import format_duration
from proxy import statedir
from proxy.balance.backend import Admin
from proxy.config.model import Backend, Config
from proxy.control.server import Request
from proxy.control.wire import BAD_REQUEST, ControlError
from proxy.events import Tell
from proxy.stats.snapshot import BackendKey, Override

SAVED: Final = "overrides.json"
"""In the state directory: the acts that a restart must not forget."""
WORDS: Final = 200
"""Characters of a reason."""
LOOK: Final = 0.1  # s between two looks whether a drained backend is empty
EVERYWHERE: Final = "*"
ADMINS: Final[Mapping[str, Admin]] = {"drain": "drain", "maint": "maint", "ready": "ready"}


@dataclass(frozen=True, slots=True)
class Act:
    """What somebody asked of a backend, `at` in Unix seconds; `over` once the deadline of a drain has passed."""

    admin: Admin
    by: str
    reason: str | None
    at: float
    saved: bool
    over: bool = False


class Admins:
    """The admin state of every backend of a daemon.

    `tell` records; `changed(keys)` hears of whom the workers, or health, must hear; `active(key)` is how much a backend has
    open.  Raises statedir.StateError for saved acts that cannot be read: they must not be forgotten.
    """

    def __init__(
        self,
        config: Config,
        tell: Tell,
        changed: Callable[[Collection[BackendKey]], None],
        active: Callable[[BackendKey], int],
    ) -> None:
        self._tell = tell
        self._changed = changed
        self._active = active
        self._loop = asyncio.get_running_loop()
        self._directory = Path(config.node.state_dir)
        self._services = {service.name: service for service in config.services}
        self._backends: dict[BackendKey, Backend] = {
            (service.name, backend.name): backend for service in config.services for backend in service.backends
        }
        self._acts: dict[BackendKey, Act] = {}
        self._deadlines: dict[BackendKey, asyncio.TimerHandle] = {}
        self._on_disk: set[BackendKey] = set()
        self.strange: list[str] = []
        """Saved acts on backends that the file does not have any more."""
        self._restore()

    def state(self, key: BackendKey) -> Admin:
        """Return what is wanted of a backend."""
        act = self._acts.get(key)
        return self._backends[key].admin if act is None else act.admin

    def acted(self, key: BackendKey) -> Admin:
        """Return what workers act on: a drain whose deadline has passed is a maintenance to them."""
        act = self._acts.get(key)
        return "maint" if act is not None and act.over else self.state(key)

    @property
    def overrides(self) -> dict[BackendKey, Override]:
        """What differs from the file, as the status shows it."""
        return {key: Override(act.admin, act.by, act.reason) for key, act in self._acts.items()}

    # -- commands

    async def act(self, request: Request) -> AsyncIterator[Mapping[str, Any]]:
        """Answer `drain`, `maint` and `ready`: `service` ("*" for every one), `backend` by name or address.

        `timeout` in seconds cuts what is left of a drain, earlier than drain-timeout; `wait` answers when nothing is open;
        `reason` in words; `save` to survive a restart.
        """
        wanted = ADMINS[request.command]
        keys = self._named(request)
        reason = _text(request, "reason")
        save, wait = (_flag(request, name) for name in ("save", "wait"))
        timeout = _seconds(request, "timeout")
        act = Act(wanted, f"uid {request.uid}", reason, time.time(), save)
        news = [key for key in keys if self.state(key) != wanted or (save and self._is_unsaved(key, wanted))]
        for key in news:
            self._set(key, act)
        limited = wanted == "drain" and timeout is not None
        if wanted == "drain" and timeout is not None:
            self._limit(keys, act, timeout)
        if news:
            self._changed(news)
            self._save()
        longest = max((self._services[key[0]].drain_timeout for key in keys), default=0.0)
        if wait and wanted != "ready":
            limit = min(longest, math.inf if timeout is None else timeout)
            yield {"timeout": None if limit == math.inf else limit, "more": True}
            while any(self.state(key) == wanted and self._active(key) for key in keys):  # noqa: ASYNC110 - shared counters
                await asyncio.sleep(LOOK)
        yield {"backends": [self._row(key) for key in keys], "changed": bool(news) or limited, "more": False}

    def show(self, request: Request) -> Mapping[str, Any]:  # noqa: ARG002 - a handler's
        """Answer `overrides`."""
        return {"overrides": [self._row(key) for key in self._acts]}

    def clear(self, request: Request) -> Mapping[str, Any]:
        """Answer `overrides clear`: what the file says holds again."""
        gone = list(self._acts)
        for key in gone:
            self._forget(key)
            admin = self._backends[key].admin
            self._tell("admin", _name(key), f"{admin}, as the file says: overrides cleared by uid {request.uid}")
        if gone:
            self._save()
            self._changed(gone)
        return {"overrides": [], "changed": bool(gone)}

    # -- inside

    def _named(self, request: Request) -> list[BackendKey]:
        service, backend = (request.arguments.get(name) for name in ("service", "backend"))
        if service != EVERYWHERE and service not in self._services:
            known = ", ".join(list(self._services)[:10])
            raise ControlError(f'there is no service "{str(service)[:60]}": only {known}', BAD_REQUEST)
        keys = [
            key
            for key, one in self._backends.items()
            if service in (EVERYWHERE, key[0]) and backend in (one.name, one.address)
        ]
        if not keys:
            where = "no service has" if service == EVERYWHERE else f"{service} does not have"
            known = ", ".join(dict.fromkeys(name for of, name in self._backends if service in (EVERYWHERE, of)))
            raise ControlError(f'{where} a backend "{str(backend)[:60]}": only {known[:400]}', BAD_REQUEST)
        return keys

    def _set(self, key: BackendKey, act: Act) -> None:
        before = self._acts.get(key)
        if before is not None and before.admin == act.admin:  # it was to be saved as well: its deadline stands
            self._acts[key] = replace(before, saved=True)
            self._tell(
                "admin", _name(key), f"{act.admin} is to hold over a restart, by {act.by}", admin=act.admin, by=act.by
            )
            return
        self._forget(key)
        if not self._is_plain(key, act.admin):
            self._acts[key] = act
        why = f": {act.reason}" if act.reason else ""
        self._tell("admin", _name(key), f"{act.admin}, by {act.by}{why}", admin=act.admin, by=act.by)

    def _limit(self, keys: Collection[BackendKey], act: Act, timeout: float) -> None:
        """Cut what these backends have left after `timeout` seconds; the file may have drained them before this act."""
        for key in keys:
            self._acts.setdefault(key, act)
            timer = self._deadlines.pop(key, None)
            if timer is not None:
                timer.cancel()
            self._deadlines[key] = self._loop.call_later(timeout, self._cut, key, timeout)
            self._tell("admin", _name(key), f"what is left is cut after {format_duration(timeout)}, by {act.by}")

    def _cut(self, key: BackendKey, timeout: float) -> None:
        self._deadlines.pop(key, None)
        self._acts[key] = replace(self._acts[key], over=True)
        left = self._active(key)
        self._tell("admin", _name(key), f"drained for {format_duration(timeout)}, {left} left: cut", left=left)
        self._changed([key])

    def _forget(self, key: BackendKey) -> None:
        self._acts.pop(key, None)
        timer = self._deadlines.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _is_plain(self, key: BackendKey, wanted: Admin) -> bool:
        """Whether nothing has to be remembered for it: ready, as the file says."""
        return wanted == self._backends[key].admin == "ready"

    def _is_unsaved(self, key: BackendKey, wanted: Admin) -> bool:
        act = self._acts.get(key)
        return not self._is_plain(key, wanted) and (act is None or not act.saved)

    def _row(self, key: BackendKey) -> dict[str, Any]:
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
            statedir.save(self._directory, SAVED, document)
            self._on_disk = {key for key, act in self._acts.items() if act.saved}
        except statedir.StateError as error:
            self._tell("admin", SAVED, f"a restart will not know of it: {error}", level="error")
            for key, act in self._acts.items():
                self._acts[key] = replace(act, saved=act.saved and key in self._on_disk)
            raise ControlError(f"it is so now, but a restart will not know of it: {error}") from error

    def _restore(self) -> None:
        document = statedir.load(self._directory, SAVED)
        for row in document if isinstance(document, list) else []:
            try:
                key = (str(row["service"]), str(row["backend"]))
                act = Act(ADMINS[row["admin"]], str(row["by"]), row["reason"], float(row["at"]), saved=True)
            except (KeyError, TypeError, ValueError) as error:
                raise statedir.StateError(f"{self._directory / SAVED}: no act of ours: {error!r}") from error
            self._on_disk.add(key)
            if key in self._backends:
                self._acts[key] = act
            else:
                self.strange.append(_name(key))


def _name(key: BackendKey) -> str:
    return f"{key[0]}/{key[1]}"


def _flag(request: Request, name: str) -> bool:
    value = request.arguments.get(name, False)
    if not isinstance(value, bool):
        raise ControlError(f"{name} is true or false", BAD_REQUEST)
    return value


def _seconds(request: Request, name: str) -> float | None:
    value = request.arguments.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ControlError(f"{name} is a number of seconds", BAD_REQUEST)
    return float(value)


def _text(request: Request, name: str) -> str | None:
    value = request.arguments.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > WORDS):
        raise ControlError(f"{name} has at most {WORDS} characters", BAD_REQUEST)
    return value
