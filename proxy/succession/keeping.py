"""Lets the service manager keep what a daemon that is killed would take with it: queues, counters, clients' backends.

The manager keeps the listening members, the shared memory of the workers and one document that says what is what.  It
gives them to the next life of the daemon.  Two documents take turns, so that there is always a whole one.
"""

import json
import os
import time
from collections.abc import Mapping

from proxy.host.service_manager import ServiceManager
from proxy.stats import sealed
from proxy.succession import document
from proxy.succession.document import DocumentError
from proxy.succession.estate import Estate
from proxy.succession.legacy import Legacy

DOCUMENTS = ("state-0", "state-1")
LARGEST = 64 << 20  # octets of a document
_OWN = frozenset({"base", *DOCUMENTS})  # what each daemon has anew


class Keeping:
    """Tells the manager what to keep."""

    def __init__(self, manager: ServiceManager, estate: Estate, before: Mapping[str, object]) -> None:
        """`before` names what it has kept for an earlier life."""
        self._manager = manager
        self._estate = estate
        self._kept = set(before)
        self._written = 0
        self._known: object = None  # what the newest document says

    def inherit(self, state: document.State, late: document.Late) -> None:
        """Take note of what the manager keeps for a predecessor, whose place this daemon has taken."""
        self._kept |= {f"listener-{row.number}-{index}" for row in state.listeners for index in range(row.members)}
        self._kept |= {f"{kind}-{row.life}" for row in late.workers for kind in ("column", "journal")}
        self._kept |= {"base", "store", "rates", *DOCUMENTS}

    def look(self) -> None:
        """Let the manager keep what has come, and let go of what has gone."""
        if not self._manager.keeps_descriptors:
            return
        state, descriptors = self._estate.brief()
        late, more = self._estate.brief_late()
        wanted = {name: fd for name, fd in (descriptors | more).items() if _outlives(name)}
        for name in sorted(self._kept - wanted.keys() - set(DOCUMENTS)):
            self._manager.unstore(name)
        for name in sorted(wanted.keys() - self._kept if self._known is not None else wanted.keys()):
            if name in _OWN:
                self._manager.unstore(name)
            self._manager.store(name, [wanted[name]])
        kept = wanted.keys() | (self._kept & set(DOCUMENTS))
        known = state.model_dump(), late.model_dump(include={"workers"})
        self._kept = set(kept)
        if known != self._known:
            self._known = known
            self._write(known)

    def _write(self, known: tuple[Mapping[str, object], Mapping[str, object]]) -> None:
        self._written += 1
        new, old = DOCUMENTS[self._written % 2], DOCUMENTS[(self._written + 1) % 2]
        # Of two documents the later one counts, whichever daemon has written it.
        text = json.dumps({"serial": time.monotonic_ns(), "state": known[0], "late": known[1]}).encode()
        try:
            fd = sealed.frozen("state", text)
        except OSError:
            self._known = None  # once more at the next look
            return
        self._manager.unstore(new)
        self._manager.store(new, [fd])
        os.close(fd)
        self._manager.unstore(old)
        self._kept = self._kept - {old} | {new}

    def end(self) -> None:
        """Let go of the workers' counters: they have been added to the sums."""
        for name in sorted(self._kept):
            if name.startswith(("column-", "journal-")):
                self._manager.unstore(name)


class Kept(Legacy):
    """What the manager has kept of a daemon that was killed, or that has ended in order."""

    def __init__(self, restored: Mapping[str, list[int]]) -> None:
        """Own the descriptors.  Raises DocumentError, and closes them all, if no document among them can be used."""
        super().__init__()
        for name, fds in restored.items():
            self.keep([name] * len(fds), fds)
        try:
            tree = self._newest()
            self._state = document.read(document.State, tree.get("state", {}))
            self.late = document.read(document.Late, tree.get("late", {}))
        except DocumentError:
            self.drop()
            raise

    def _newest(self) -> Mapping[str, dict[str, object]]:
        found = []
        for name in DOCUMENTS:
            fd = self.take(name)
            if fd >= 0:
                with os.fdopen(fd, "rb") as file:
                    file.seek(0)
                    try:
                        found.append(json.loads(file.read(LARGEST)))
                    except (ValueError, RecursionError):
                        continue
        trees = [one for one in found if isinstance(one, dict) and isinstance(one.get("serial"), int)]
        if not trees:
            raise DocumentError("the service manager has kept no document that says what the descriptors are")
        return max(trees, key=lambda one: int(one["serial"]))


def _outlives(name: str) -> bool:
    """Returns True for what may outlive a daemon: not what says that it lives, its lock and its control socket."""
    return name in {"base", "store", "rates"} or name.startswith(("listener-", "column-", "journal-"))
