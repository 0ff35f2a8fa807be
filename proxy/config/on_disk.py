"""Finds out whether the files of the configuration are others than the ones that were read."""

import glob
import os
import time
from typing import Final

from proxy.config.diagnostics import Report
from proxy.config.files import Files

RECENT: Final = 3.0
"""Seconds after a change within which a file is read each time: it may change again within one tick of its clock."""

Stamp = dict[str, tuple[int, ...] | None]
"""By file: its times, its identity and its size; None for one that is not there."""


class OnDisk:
    """The configuration's files as they are on the disk now.  Blocks: for a thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: Stamp | None = None
        self._names = [path]
        self._patterns: list[str] = []
        self._sha256: str | None = None

    def sha256(self) -> str | None:
        """Return the digest of the files, as `Config.sha256` has it; None if the main file cannot be read.

        They are read only if a file's status has changed since the last call.
        """
        stamp = self._look()
        if stamp != self._stamp or _is_recent(stamp):
            files = Files(Report())
            try:
                files.load(self._path)
            except OSError:
                self._sha256, self._names, self._patterns = None, [self._path], []
            else:
                self._sha256, self._names, self._patterns = files.sha256, files.names, files.patterns
            self._stamp = self._look()
        return self._sha256

    def _look(self) -> Stamp:
        found = sorted({name for pattern in self._patterns for name in glob.glob(pattern)})  # noqa: PTH207 - as `Files`
        return {name: _status(name) for name in (*self._names, *found)}


def _is_recent(stamp: Stamp) -> bool:
    return any(time.time() - max(one[0], one[1]) / 1e9 < RECENT for one in stamp.values() if one is not None)


def _status(name: str) -> tuple[int, ...] | None:
    try:
        info = os.stat(name)  # noqa: PTH116 - text
    except OSError:
        return None
    return info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev, info.st_size
