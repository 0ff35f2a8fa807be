"""The password files that probes need, read by the master, who may be the only one who can, and read again as they change.

Looked at each second: whoever replaces a file, or rewrites it, has the new password tried within about that.  Nothing of
what they hold is shown: not in a log, an event, an answer or a `repr`.
"""

import base64
import contextlib
import os
import time
from collections.abc import Iterable

from health.secrets import NoSecret, read
from proxy.config.model import Config

_RECENT = (
    3.0  # s after a change within which a file is read at each look: it may change again within one tick of its clock
)

Stamp = tuple[int, ...]


def named(config: Config) -> list[str]:
    """Return the password files that a configuration's probes name."""
    probes = [probe for service in config.services for backend in service.backends for probe in backend.probes]
    probes += config.probes.values()  # those that routers track
    return sorted({path for probe in probes if (path := getattr(probe, "password_file", None))})


class Passwords:
    """What the files hold; blocking, but bounded: a stat each, and a small read for one that changed."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._held: dict[str, bytes | str] = dict.fromkeys(paths, "")
        self._stamps: dict[str, Stamp] = {}
        for path in self._held:
            self._read(path)

    def add(self, paths: Iterable[str]) -> dict[str, str]:
        """Read these, too; those that are new, and in words what is wrong with each, "" if nothing."""
        new = [path for path in paths if path not in self._held]
        for path in new:
            self._read(path)
        return {path: held if isinstance(held := self._held[path], str) else "" for path in new}

    def __repr__(self) -> str:
        return f"<Passwords {len(self._held)}>"

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
            self._held[path] = read(path)
        except NoSecret as why:
            self._held[path] = str(why)


def _stamp(path: str) -> Stamp:
    info = os.stat(path)  # noqa: PTH116 - text
    return info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev, info.st_size
