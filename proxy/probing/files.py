"""The files that probes need, passwords and authorities: the master reads them, as health may lack the permission.

The master checks them each second, so that probes use a replaced or rewritten password within about a second.  Nothing
of what they hold is shown: not in a log, an event, an answer or a `repr`.
"""

import base64
import contextlib
import os
import time
from collections.abc import Mapping

from health.credentials import NoCredential, located
from health.secrets import KINDS, Kind, NoSecret, read
from proxy.config.hostfiles import distrust
from proxy.config.model import Config

_RECENT = (
    3.0  # s after a change within which a file is read at each look: it may change again within one tick of its clock
)

Stamp = tuple[int, ...]


def named(config: Config) -> dict[str, Kind]:
    """Return the files that a configuration's probes name, and what each is for."""
    probes = [probe for service in config.services for backend in service.backends for probe in backend.probes]
    probes += config.probes.values()  # those that routers track
    found = {path: kind for probe in probes for key, kind in KINDS.items() if (path := getattr(probe, key, None))}
    return dict(sorted(found.items()))


class ProbeFiles:
    """What the files hold; blocking, but bounded: a stat each, and a small read for one that changed."""

    def __init__(self, named: Mapping[str, Kind]) -> None:
        self._kinds: dict[str, Kind] = {}
        self._held: dict[str, bytes | str] = {}
        self._stamps: dict[str, Stamp] = {}
        self.add(named)

    def add(self, named: Mapping[str, Kind]) -> dict[str, str]:
        """Read these, too; those that are new, and in words what is wrong with each, "" if nothing."""
        new = [path for path in named if path not in self._kinds]
        for path in new:
            self._kinds[path] = named[path]
            self._read(path)
        return {path: held if isinstance(held := self._held[path], str) else "" for path in new}

    def __repr__(self) -> str:
        return f"<ProbeFiles {len(self._held)}>"

    def label(self, path: str) -> str:
        """Return what to call a file: "password file /etc/steelyard/mysql.pw"."""
        return f"{self._kinds[path].label} {path}"

    def rows(self) -> dict[str, list[str]]:
        """Return them as `messages.Secrets` carries them."""
        return {
            path: ["", held] if isinstance(held, str) else [base64.b64encode(held).decode(), ""]
            for path, held in self._held.items()
        }

    def faults(self) -> list[str]:
        """Return in words which cannot be read."""
        return [held for held in self._held.values() if isinstance(held, str)]

    def look(self) -> dict[str, str]:
        """Read again those that have changed; returns their paths, and in words what is wrong with each, "" if nothing."""
        changed: dict[str, str] = {}
        for path, held in self._held.items():
            with contextlib.suppress(OSError):
                stamp = _stamp(path)
                recent = time.time() - max(stamp[0], stamp[1]) / 1e9 < _RECENT
                if stamp == self._stamps.get(path) and not recent:
                    continue
            self._read(path)
            if (now := self._held[path]) != held:
                changed[path] = now if isinstance(now, str) else ""
        return changed

    def _read(self, path: str) -> None:
        self._stamps.pop(path, None)
        with contextlib.suppress(OSError):
            self._stamps[path] = _stamp(path)  # before it is read: a change in between is found at the next look
        try:
            self._held[path] = read(path, self._kinds[path])
        except NoSecret as why:
            self._held[path] = str(why)
        else:
            # Otherwise the master would hand a file that another user planted to an unprivileged process (S7).
            if unsafe := distrust(path, running=True):
                self._held[path] = f"{self.label(path)} is not read: {unsafe}"


def _stamp(path: str) -> Stamp:
    try:
        info = os.stat(located(path))  # noqa: PTH116 - text
    except NoCredential as why:
        raise FileNotFoundError(str(why)) from None
    return info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev, info.st_size
